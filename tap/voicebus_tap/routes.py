"""The tap's own routes, below ``/voicebus/`` (docs/tap-contract.md, and ``status`` for people)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import CONTRACT_VERSION, __version__
from .call import stamp
from .deeds import Deeds, Refused
from .door import Receive, Scope, Send, answer
from .guard import ID, Guard, read_body
from .journal import Kind
from .observation import now

if TYPE_CHECKING:
    from .tap import Tap

_INTENT = re.compile(r"/voicebus/intents/([^/]+)")
_DEED = re.compile(r"/voicebus/calls/([^/]+)/(hangup|context|say)")
#: Longest bodies, from the contract, and some room for the JSON around them.
_LENGTHS = {"hangup": 1024, "context": 64 * 1024, "say": 8 * 1024 + 256}


class Routes:
    """Answers every request below ``/voicebus/`` that has passed the door."""

    def __init__(self, tap: Tap, guard: Guard, deeds: Deeds) -> None:
        self._tap = tap
        self._guard = guard
        self._deeds = deeds

    async def answer(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        """Answers one request."""
        path, method = scope["path"], scope["method"]
        if path == "/voicebus/tap" and method == "GET":
            await answer(send, 200, self._about())
        elif path == "/voicebus/status" and method == "GET":
            await answer(send, 200, self._tap.status())
        elif (found := _INTENT.fullmatch(path)) and method == "GET":
            await self._intent(found.group(1), send)
        elif (found := _DEED.fullmatch(path)) and method == "POST":
            await self._deed(found.group(1), found.group(2), headers, receive, send)
        else:
            await answer(send, 404, {"detail": "there is nothing at this path"})

    def _about(self) -> dict[str, Any]:
        at = now()
        return {
            "tap": int(CONTRACT_VERSION),
            "version": __version__,
            "features": ["intents", "hangup", *([] if "websockets" in self._tap.missing else ["context", "say"])],
            "complete_since": stamp(self._guard.journal.complete_since(at)),
            "time": stamp(at),
        }

    async def _intent(self, name: str, send: Send) -> None:
        if not ID.fullmatch(name):
            await answer(send, 400, {"state": "refused", "detail": "that is no intent id"})
            return
        try:
            ask = await self._guard.in_journal(self._guard.journal.find, Kind.DIAL, name)
        except Exception as error:
            self._tap.faults.note("journal", error)
            text = "the journal cannot be read"
            await answer(send, 503, {"state": "refused", "detail": text}, {"retry-after": "5"})
            return
        at = now()
        body: dict[str, Any] = {"intent": name, "state": "unseen", "repeats": 0}
        if ask is not None:
            body |= {"state": ask.state.value, "received_at": stamp(ask.received_at), "repeats": ask.repeats}
            if ask.call_id is not None:
                body["call_id"] = ask.call_id
            if ask.answered_at is not None:
                body |= {"status": ask.status, "body": ask.body, "answered_at": stamp(ask.answered_at)}
        body |= {"complete_since": stamp(self._guard.journal.complete_since(at)), "time": stamp(at)}
        await answer(send, 200, body)

    async def _deed(
        self, call: str, verb: str, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        body = await read_body(receive, _LENGTHS[verb])
        if body is None:
            return
        if len(body) > _LENGTHS[verb]:
            await answer(send, 413, {"state": "refused", "detail": "the body is too long"})
            return
        command = headers.get("x-command-id")
        # A call is hung up twice without harm; a sentence is not said twice.
        once = command is not None and verb != "hangup"
        if once and command is not None:
            asked = f"{verb} {call}\n".encode() + body
            if await self._guard.ask(Kind.COMMAND, command, headers.get("x-command-deadline"), asked, send) is None:
                return
        # A client that goes does not leave a sentence half said.
        doing = asyncio.ensure_future(self._do(call, verb, body))
        status, reply = await asyncio.shield(doing)
        if once and command is not None:
            with self._tap.faults.contained("journal"):
                await self._guard.in_journal(
                    self._guard.journal.close, Kind.COMMAND, command, status, "application/json",
                    json.dumps(reply), None, now(),
                )
        await answer(send, status, reply)

    async def _do(self, call: str, verb: str, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            if not ID.fullmatch(call):
                raise Refused(400, "that is no call id")
            fields = _object(body)
            if verb == "hangup":
                return 200, {"status": "ended", "call_id": await self._deeds.hangup(call)}
            if verb == "context":
                context = fields.get("context")
                if not isinstance(context, dict):
                    raise Refused(400, "`context` must be an object")
                return 200, {"status": "injected", "call_id": await self._deeds.context(call, context)}
            text = fields.get("text")
            if not isinstance(text, str) or not text.strip():
                raise Refused(400, "`text` must be a sentence")
            return 200, {"status": "said", "call_id": await self._deeds.say(call, text)}
        except Refused as refused:
            if refused.status == 410:
                return 410, {"state": "over"}
            return refused.status, {"state": "refused", "detail": refused.detail}
        except Exception as error:
            self._tap.faults.note(verb, error)
            return 502, {"state": "refused", "detail": "it could not be done"}


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body must be an object")
    return value
