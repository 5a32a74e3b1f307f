"""Which calls there are, and what an observation means for them.

One call has one id: Twilio's for whatever Twilio carries, OpenAI's for a SIP call that came in.
What is seen under its other id is told under the first. A call begins once and ends once; what is
told is told in the order in which it was seen, except that words stand in spoken order (``speech``).

Pure: observations in, things to tell out; the time comes with the observation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from . import observation as seen
from .call import CALL_ID, Call, Paired, Told, stamp
from .matching import header_value, leg_of
from .speech import Closed, Conversation, Failed, Said, ToolCalled, Turn

#: How long a call may be without its connection to OpenAI before it is over: the server tries to
#: come back after 0.5, 1, 2, 4 and 8 seconds.
SIDEBAND_GRACE = 20.0
#: How long a call whose acceptance is in doubt has to give a sign of life.
DOUBT_GRACE = 30.0
#: How long an ended call is remembered, for words and reports that come late.
MEMORY_SECONDS = 600.0
#: After this a call of which nobody has told the end is over; no carrier keeps one that long.
AGE_MAX = 24 * 3600.0
CALLS_MAX = 10_000

_ENDS = {"completed": "completed", "busy": "busy", "no-answer": "no-answer", "failed": "failed",
         "canceled": "canceled"}
_STREAM_ENDS = {"stop": ("hangup-user", None), "closed": ("hangup-user", "stream-closed"),
                "broken": ("error", "stream-broken"), "server": ("hangup-bot", None),
                "server-error": ("error", "server-closed-stream"), "stopping": ("error", "server-stopped")}


@dataclass
class _Socket:
    call: str | None
    sideband: bool
    conversation: Conversation


class Book:
    """All calls. One thread at a time."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        #: Calls that changed since the last look.
        self.changed: set[str] = set()
        self._lost: list[seen.CarrierDialled] = []
        self._other_ids: dict[str, str] = {}
        self._streams: dict[int, str] = {}
        self._sockets: dict[int, _Socket] = {}
        self._handlers: dict[type, Any] = {
            seen.Exchange: self._exchange, seen.CarrierDialled: self._dialled,
            seen.CarrierFound: self._found, seen.CarrierState: self._carrier_state,
            seen.ModelAnswered: self._model_answered, seen.StreamStarted: self._stream_started,
            seen.StreamEnded: self._stream_ended, seen.SocketOpened: self._socket_opened,
            seen.SocketRefused: self._socket_refused, seen.SocketFrame: self._frame,
            seen.SocketClosed: self._socket_closed, seen.Emitted: self._emitted,
            seen.HangupAsked: self._hangup_asked,
        }

    def apply(self, observation: seen.Observation) -> Iterator[Told | Paired]:
        """What an observation gives to tell."""
        yield from self._handlers[type(observation)](observation)

    def tick(self, now: float) -> Iterator[Told | Paired]:
        """What the passing of time gives to tell."""
        for socket in list(self._sockets.values()):
            call = self.find(socket.call)
            if call is not None:
                yield from self._words(call, socket.conversation.release(now), now)
        for call in list(self.calls.values()):
            if not call.ended and call.ends_at is not None and call.ends_at <= now:
                yield from self._end(call, *call.ends_as, now)
            if not call.ended and now - call.since > AGE_MAX:
                yield from self._end(call, "timeout", None, now)
            if call.ended and now - call.ended_at > MEMORY_SECONDS:
                self._forget(call)

    def restore(self, snapshot: str, now: float) -> Iterator[Told | Paired]:
        """Takes over a call of a process that is gone, and ends it if it died with it.

        A call that Twilio carries and whose audio did not pass the server may live on; Twilio is
        asked about it. Nobody can be asked about the others.
        """
        call = Call.of_snapshot(snapshot)
        self.calls[call.id] = call
        if call.leg:
            self._other_ids[call.leg] = call.id
        if call.at_carrier and not call.streamed:
            call.ends_at, call.ends_as = now + DOUBT_GRACE * 4, ("error", "server-stopped")
        else:
            yield from self._end(call, "error", "server-stopped", now)

    def take_lost(self) -> list[seen.CarrierDialled]:
        """The dials whose answer was lost since the last look."""
        lost, self._lost = self._lost, []
        return lost

    def find(self, call: str | None) -> Call | None:
        """A call by either of its ids."""
        return self.calls.get(self._other_ids.get(call, call)) if call else None

    def sockets_of(self, call: Call) -> list[int]:
        """The connections to OpenAI of a call, newest first."""
        return [number for number, socket in reversed(self._sockets.items()) if self.find(socket.call) is call]

    def responding(self, call: Call) -> bool:
        """Whether the assistant is making an answer just now."""
        return any(self._sockets[number].conversation.responding for number in self.sockets_of(call))

    def untranscribed(self) -> list[int]:
        """The connections to SIP calls on which OpenAI has not been asked for the caller's words."""
        return [
            number for number, socket in self._sockets.items()
            if socket.sideband and socket.call and not socket.conversation.transcribes
        ]

    def streams_of(self, call: Call) -> list[int]:
        """The media streams of a call."""
        return [number for number, other in self._streams.items() if other == call.id]

    # What the server was asked and answered.

    def _exchange(self, it: seen.Exchange) -> Iterator[Told | Paired]:
        if it.status >= 300:
            return
        form = _form(it)
        if it.path == "/webhook" and not form:
            yield from self._model_webhook(it)
        elif it.path in ("/webhook", "/voice/status"):
            call = self.find(form.get("CallSid"))
            if call is not None:
                yield from self._carrier_says(call, form.get("CallStatus", ""), it.at)
        elif it.path == "/voice/incoming":
            yield from self._voice_incoming(form, it.at)
        elif it.path == "/twiml/outbound":
            call = self.find(form.get("CallSid"))
            if call is not None:
                yield from self._answer(call, it.at)

    def _model_webhook(self, it: seen.Exchange) -> Iterator[Told | Paired]:
        event = _json(it.body)
        data = event.get("data")
        name = data.get("call_id") if isinstance(data, Mapping) else None
        if not isinstance(name, str) or not CALL_ID.fullmatch(name) or not isinstance(data, Mapping):
            return
        call = self.find(name)
        if event.get("type") == "realtime.call.ended":
            if call is not None:
                yield from self._end(call, "completed", None, it.at)
        elif event.get("type") == "realtime.call.incoming" and call is None:
            headers = data.get("sip_headers")
            headers = [h for h in headers if isinstance(h, Mapping)] if isinstance(headers, list) else []
            outbound = [c for c in self.calls.values() if c.direction == "outbound" and not c.ended]
            match = leg_of(headers, outbound, it.at)
            refused = _json(it.answer).get("status") == "rejected"
            if isinstance(match, Call) and not refused:
                match.leg = name
                self.changed.add(match.id)
                self._other_ids[name] = match.id
                yield from self._answer(match, it.at)
                return
            call = self._begin(name, "inbound", it.at, party=header_value(headers, "From"))
            yield from self._start(call)
            if refused:
                yield from self._end(call, "rejected", None, it.at)
            else:
                call.ends_at, call.ends_as = it.at + DOUBT_GRACE, ("error", "not-accepted")

    def _voice_incoming(self, form: Mapping[str, str], at: float) -> Iterator[Told | Paired]:
        name = form.get("CallSid", "")
        if not CALL_ID.fullmatch(name):
            return
        call = self.find(name)
        outbound = form.get("Direction", "").startswith("outbound")
        if call is None:
            direction = "outbound" if outbound else "inbound"
            party, own = (form.get("To"), form.get("From")) if outbound else (form.get("From"), None)
            call = self._begin(name, direction, at, party=party, own=own)
            yield from self._start(call)
        if call.direction == "outbound":
            yield from self._answer(call, at)

    # What the carrier says.

    def _dialled(self, it: seen.CarrierDialled) -> Iterator[Told | Paired]:
        if it.status is None:
            self._lost = [*self._lost[-99:], it]
            return
        name = _json(it.answer).get("sid")
        if it.status < 300 and isinstance(name, str) and CALL_ID.fullmatch(name):
            yield from self._outbound(name, it.form, it.intent, it.at)

    def _found(self, it: seen.CarrierFound) -> Iterator[Told | Paired]:
        yield from self._outbound(it.call, it.form, it.intent, it.at)

    def _outbound(
        self, name: str, form: Mapping[str, str], intent: str | None, at: float
    ) -> Iterator[Told | Paired]:
        if self.find(name) is not None:
            return
        call = self._begin(name, "outbound", at, party=form.get("To"), own=form.get("From"))
        call.intent = intent
        yield from self._start(call, intent)
        if intent is not None:
            yield Paired(intent, name)

    def _carrier_state(self, it: seen.CarrierState) -> Iterator[Told | Paired]:
        call = self.find(it.call)
        if call is None:
            return
        if it.ended_by_us and not call.ended:
            call.hangup = "bot"
        if it.status is None:
            yield from self._end(call, "error", "unknown-to-carrier", it.at)
        else:
            yield from self._carrier_says(call, it.status, it.at)

    def _carrier_says(self, call: Call, status: str, at: float) -> Iterator[Told | Paired]:
        if status in _ENDS:
            yield from self._end(call, _ENDS[status], None, at)
        elif call.at_carrier:
            call.ends_at = None
            if status == "ringing" and not (call.ringing or call.answered or call.ended):
                call.ringing = True
                yield self._tell(call, "call.ringing", at, {})
            elif status in ("in-progress", "answered") and call.direction == "outbound":
                yield from self._answer(call, at)

    # What OpenAI says.

    def _model_answered(self, it: seen.ModelAnswered) -> Iterator[Told | Paired]:
        call = self.find(it.call)
        if call is None:
            return
        done = it.status is not None and it.status < 300
        if it.operation == "accept" and done:
            yield from self._answer(call, it.at)
        elif it.operation == "accept" and it.status is not None and not call.at_carrier:
            yield from self._end(call, "error", "accept-failed", it.at)
        elif it.operation == "reject" and done:
            yield from self._end(call, "rejected", None, it.at)
        elif it.operation == "hangup" and done:
            yield from self._end(call, "hangup-bot", None, it.at)

    def _socket_opened(self, it: seen.SocketOpened) -> Iterator[Told | Paired]:
        self._sockets[it.socket] = _Socket(it.call, it.sideband, Conversation())
        call = self.find(it.call)
        if call is not None:
            yield from self._answer(call, it.at)

    def _socket_refused(self, it: seen.SocketRefused) -> Iterator[Told | Paired]:
        call = self.find(it.call)
        if call is not None and call.spoken and it.status in (404, 410) and not self.sockets_of(call):
            yield from self._end(call, "completed", None, it.at)

    def _frame(self, it: seen.SocketFrame) -> Iterator[Told | Paired]:
        socket = self._sockets.get(it.socket)
        frame = _json(it.text)
        if socket is None or not frame:
            return
        if it.sent:
            socket.conversation.sent(frame)
            return
        heard = socket.conversation.heard(frame, it.at)
        call = self.find(socket.call)
        # A call may have several connections to OpenAI; all hear the same, the oldest one tells.
        eldest = call is not None and self.sockets_of(call)[-1] == it.socket
        if call is None or not eldest:
            for _ in heard:
                pass
            return
        yield from self._words(call, heard, it.at)

    def _words(self, call: Call, heard: Iterator[Any], at: float) -> Iterator[Told | Paired]:
        for one in heard:
            if isinstance(one, Said):
                call.spoken = True
                data = {"text": one.text, "spoken_at": stamp(one.spoken_at)}
                yield self._tell(call, f"transcript.{one.speaker}", at, data)
            elif isinstance(one, Turn) and not call.ended:
                kind = "audio.received" if one.speaker == "user" else "audio.sent"
                yield self._tell(call, kind, at, {"turn": "began"})
            elif isinstance(one, ToolCalled):
                data = {"speaker": "tool", "text": f"tool called: {one.name}"}
                yield self._tell(call, "transcript.system", at, data)
            elif isinstance(one, Failed):
                data = {"speaker": "error", "text": f"OpenAI reported an error: {one.code}"}
                yield self._tell(call, "transcript.system", at, data)
            elif isinstance(one, Closed) and not call.streamed:
                yield from self._end(call, "completed", None, at)

    def _socket_closed(self, it: seen.SocketClosed) -> Iterator[Told | Paired]:
        socket = self._sockets.get(it.socket)
        call = self.find(socket.call) if socket else None
        if socket is not None and call is not None:
            yield from self._words(call, socket.conversation.release(it.at, everything=True), it.at)
        self._sockets.pop(it.socket, None)
        if socket is not None and socket.sideband and call is not None and not self.sockets_of(call):
            call.ends_at, call.ends_as = it.at + SIDEBAND_GRACE, ("completed", "connection-closed")

    # Twilio's media streams.

    def _stream_started(self, it: seen.StreamStarted) -> Iterator[Told | Paired]:
        if not CALL_ID.fullmatch(it.call):
            return
        call = self.find(it.call)
        if call is None:
            call = self._begin(it.call, "inbound", it.at)
            yield from self._start(call)
        self._streams[it.stream] = call.id
        call.streamed = True
        yield from self._answer(call, it.at)

    def _stream_ended(self, it: seen.StreamEnded) -> Iterator[Told | Paired]:
        call = self.find(self._streams.pop(it.stream, None))
        if call is not None and not self.streams_of(call):
            reason, detail = _STREAM_ENDS[it.how]
            yield from self._end(call, reason, detail, it.at)

    # What the server's own emitter says, and what the tap itself is asked.

    def _emitted(self, it: seen.Emitted) -> Iterator[Told | Paired]:
        event = _json(it.body)
        name, kind, data = event.get("callId"), event.get("eventType"), event.get("data")
        if not isinstance(name, str) or not CALL_ID.fullmatch(name):
            return
        call = self.find(name)
        if call is None and kind == "call_started":
            direction = event.get("direction")
            party = event.get("phoneNumber")
            call = self._begin(name, direction if direction in ("inbound", "outbound") else None,
                               it.at, party=party if isinstance(party, str) else None)
            yield from self._start(call)
        elif call is not None and kind == "call_ended":
            yield from self._end(call, "completed", None, it.at)
        elif call is not None and kind == "transcript_update" and isinstance(data, Mapping):
            text, speaker = data.get("content"), data.get("speaker")
            # Whose words are heard at OpenAI, is heard there only.
            if isinstance(text, str) and text.strip() and not call.spoken:
                data = {"text": text, "speaker": str(speaker or "")}
                yield self._tell(call, "transcript.updated", it.at, data)

    def _hangup_asked(self, it: seen.HangupAsked) -> Iterator[Told | Paired]:
        call = self.find(it.call)
        if call is not None and not call.ended:
            call.hangup = "bot"
            self.changed.add(call.id)
            if it.done:
                yield from self._end(call, "hangup-bot", None, it.at)

    # The life of a call.

    def _begin(
        self, name: str, direction: str | None, at: float, party: str | None = None, own: str | None = None
    ) -> Call:
        call = Call(id=name, since=at, direction=direction, party=party or None, own=own or None)
        self.calls[name] = call
        if len(self.calls) > CALLS_MAX:
            self._forget(next(iter(self.calls.values())))
        return call

    def _start(self, call: Call, intent: str | None = None) -> Iterator[Told]:
        data: dict[str, Any] = {"phone_number": call.party or ""}
        if call.direction:
            data["direction"] = call.direction
        if intent is not None:
            data["intent_id"] = intent
        yield self._tell(call, "call.started", call.since, data)

    def _answer(self, call: Call, at: float) -> Iterator[Told]:
        call.ends_at = None
        if not call.answered and not call.ended:
            call.answered = True
            yield self._tell(call, "call.answered", at, {"leg": call.leg} if call.leg else {})

    def _end(self, call: Call, reason: str, detail: str | None, at: float) -> Iterator[Told]:
        if call.ended:
            return
        for number in self.sockets_of(call):
            # Where the audio passed the server, nothing more can come. Of a SIP call the end may be
            # told before its last words are; those keep their order and come after it.
            rest = self._sockets[number].conversation.release(at, everything=call.streamed)
            for told in self._words(call, rest, at):
                if isinstance(told, Told):
                    yield told
        if call.hangup == "bot" and reason in ("completed", "hangup-user", "error"):
            reason, detail = "hangup-bot", None
        call.ended, call.ended_at, call.ends_at = True, at, None
        data = {"reason": reason} | ({"status": detail} if detail else {})
        kind = "call.failed" if reason in ("failed", "error") else "call.ended"
        yield self._tell(call, kind, at, data)

    def _tell(self, call: Call, kind: str, at: float, data: dict[str, Any]) -> Told:
        self.changed.add(call.id)
        return Told(call.id, kind, at, data)

    def _forget(self, call: Call) -> None:
        self.calls.pop(call.id, None)
        if call.leg:
            self._other_ids.pop(call.leg, None)


def _form(it: seen.Exchange) -> dict[str, str]:
    """The fields of a form, with those of the query beneath; empty for anything but a form or GET."""
    if not it.content_type.startswith("application/x-www-form-urlencoded") and it.method != "GET":
        return {}
    text = it.body.decode("utf-8", "replace")
    return dict(parse_qsl(it.query, keep_blank_values=True)) | dict(parse_qsl(text, keep_blank_values=True))


def _json(text: bytes | str) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
