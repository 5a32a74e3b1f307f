"""voicebus-tap: runs a phone-call server unchanged and tells voicebus what happens in it.

The map, in reading order:

=================  ================================================================
``__main__``       arguments in, the server's script run, everything flushed at the end
``settings``       every setting
``tap``            where the parts meet
``hooks``          what is wrapped in other people's libraries: uvicorn, httpx, requests, websockets
``door``           the ASGI application around the server's own: who may come in, what is watched
``guard``          ``POST /call``: one intent reaches the server once
``journal``        the intents and commands on disk
``routes``         the tap's own routes below ``/voicebus/``
``deeds``          hang up, give context, say a sentence
``context``        which call or intent a task of the server works on
``observation``    what the hooks saw, and the bounded queue that carries it out of the server's loop
``call``           one call, and what is told of it
``book``           which calls there are and what an observation means for them; pure
``matching``       which outbound call a second leg belongs to; pure
``speech``         what is said on one connection to the model, in spoken order; pure
``recorder``       the thread that reads the queue, asks the book and writes the outbox
``outbox``         events on disk until the ingress has them
``courier``        the thread that delivers them
``carrier``        asks Twilio about calls that nobody tells of
``sideband``       listens to calls whose server does not
``containment``    nothing that goes wrong here reaches the server
=================  ================================================================

Two rules hold everywhere. The server's loop never waits for a disk or a network of ours, except in
``guard``, whose purpose it is. And no text of a conversation, phone number or token is logged.
"""

__version__ = "0.1.0"

#: The version of the contract between egress and a tap (docs/tap-contract.md).
CONTRACT_VERSION = "1"
