"""What the hooks saw, and the bounded queue that carries it out of the server's loop.

A hook makes one of these and appends it; everything else (parsing, meaning, disk, network) is done
by other threads. ``at`` is the wall clock when it was seen, in seconds.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from .containment import log

#: Bounds of the queue. The recorder empties it some thousand times faster than calls fill it, so
#: reaching them means that the disk has stood still for minutes.
LENGTH_MAX = 20_000
BYTES_MAX = 64 * 1024 * 1024
#: Longest text that is looked at; the ingress takes utterances up to half of it.
TEXT_LENGTH_MAX = 1024 * 1024


@dataclass(frozen=True)
class Exchange:
    """A request to the server and its answer."""

    at: float
    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    status: int
    answer: bytes

    def size(self) -> int:
        return len(self.body) + len(self.answer)


@dataclass(frozen=True)
class CarrierDialled:
    """The server asked Twilio for a call. ``status`` is ``None`` when the answer was lost; ``form`` then
    has as much as is known."""

    at: float
    form: Mapping[str, str]
    status: int | None
    answer: bytes
    intent: str | None


@dataclass(frozen=True)
class CarrierFound:
    """Twilio's list has the call whose answer was lost."""

    at: float
    call: str
    form: Mapping[str, str]
    intent: str | None


@dataclass(frozen=True)
class CarrierState:
    """Twilio says how a call is; ``None``: it does not know it."""

    at: float
    call: str
    status: str | None
    #: Whether the server itself asked for the end of the call.
    ended_by_us: bool = False


@dataclass(frozen=True)
class ModelAnswered:
    """OpenAI's answer to accept, reject or hangup; ``None``: it was lost."""

    at: float
    call: str
    operation: str
    status: int | None


@dataclass(frozen=True)
class StreamStarted:
    """A Twilio media stream named its call."""

    at: float
    stream: int
    call: str


@dataclass(frozen=True)
class StreamEnded:
    """A media stream is over. ``how``: ``stop`` (Twilio said so), ``closed`` (by the other end
    without a word), ``broken``, ``server`` (the server closed it), ``server-error``, ``stopping`` (the
    server is leaving)."""

    at: float
    stream: int
    how: str


@dataclass(frozen=True)
class SocketOpened:
    """A connection to OpenAI Realtime. ``call`` as far as address or context tell."""

    at: float
    socket: int
    call: str | None
    #: Whether it joins a call that OpenAI itself carries (``?call_id=``).
    sideband: bool


@dataclass(frozen=True)
class SocketRefused:
    """OpenAI refused to join a connection to a call."""

    at: float
    call: str
    status: int


@dataclass(frozen=True)
class SocketFrame:
    """A text frame; never audio."""

    at: float
    socket: int
    text: str
    sent: bool

    def size(self) -> int:
        return len(self.text)


@dataclass(frozen=True)
class SocketClosed:
    """The connection is gone."""

    at: float
    socket: int


@dataclass(frozen=True)
class Emitted:
    """What the server's own emitter wanted to post to ``/call-event``."""

    at: float
    body: bytes

    def size(self) -> int:
        return len(self.body)


@dataclass(frozen=True)
class HangupAsked:
    """Somebody asked the tap to end a call; ``done`` once it is carried out."""

    at: float
    call: str
    done: bool


Observation = Union[
    Exchange, CarrierDialled, CarrierFound, CarrierState, ModelAnswered, StreamStarted, StreamEnded,
    SocketOpened, SocketRefused, SocketFrame, SocketClosed, Emitted, HangupAsked,
]


@dataclass
class Sight:
    """The queue. ``put`` is called anywhere and never waits; ``take`` by the recorder alone."""

    dropped: int = 0
    _queue: deque[Observation] = field(default_factory=deque)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)

    def put(self, observation: Observation) -> None:
        """Appends an observation, or drops and counts it when the queue is full."""
        size = observation.size() if hasattr(observation, "size") else 0
        with self._lock:
            full = len(self._queue) >= LENGTH_MAX or self._bytes + size > BYTES_MAX
            if full:
                self.dropped += 1
                first = self.dropped == 1
            else:
                self._queue.append(observation)
                self._bytes += size
        if full:
            if first:
                log.error("too much waits to be written; what is seen now is lost until the disk follows")
            return
        if not self._wake.is_set():
            self._wake.set()

    def take(self, wait_seconds: float) -> list[Observation]:
        """Everything that waits, in order; empty after ``wait_seconds`` without anything."""
        self._wake.wait(wait_seconds)
        with self._lock:
            self._wake.clear()
            taken = list(self._queue)
            self._queue.clear()
            self._bytes = 0
        return taken

    def depth(self) -> int:
        """How many wait."""
        return len(self._queue)


def now() -> float:
    """The wall clock, in seconds."""
    return time.time()
