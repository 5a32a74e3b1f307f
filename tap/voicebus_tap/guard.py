"""``POST /call``: one intent reaches the server once (docs/tap-contract.md).

The journal is written before the server gets the request, and its answer before the client gets it.
The request goes on when the client has gone. This is the only place where a request waits for the
tap's disk: that is what it is for.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .containment import log
from .context import CURRENT_INTENT
from .door import Message, Receive, Scope, Send, answer
from .journal import Ask, Journal, Kind, Late, State
from .observation import now

if TYPE_CHECKING:
    from .containment import Faults

ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
#: Longest request to dial; real ones are below 10 kB.
BODY_MAX = 1024 * 1024
REPEATED = {"x-voicebus-repeat": "1"}

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Guard:
    """Holds the journal; one for the process."""

    def __init__(self, journal: Journal, faults: Faults) -> None:
        self.journal = journal
        self._faults = faults
        # One writer; the server's own pool may be full of calls that wait for Twilio.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="voicebus-journal")
        self._tasks: set[asyncio.Task[None]] = set()

    async def in_journal(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs a call of the journal outside the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def dial(
        self, app: Any, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        """Takes a request that bears an intent."""
        body = await read_body(receive, BODY_MAX)
        if body is None:
            return  # cut off: not an intent that was seen
        if len(body) > BODY_MAX:
            await answer(send, 413, {"state": "refused", "detail": "the request is too long"})
            return
        name = headers["x-intent-id"]
        verdict = await self.ask(Kind.DIAL, name, headers.get("x-intent-deadline"), body, send)
        if verdict is None:
            return
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._hand_over(app, scope, body, name, answered))
        # Kept here, so that a client that goes takes nothing with it.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        reply = await asyncio.shield(answered)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def ask(
        self, kind: Kind, name: str, deadline_text: str | None, body: bytes, send: Send
    ) -> bool | None:
        """Writes an ask down; ``None`` when it is answered already: a repeat, or refused."""
        deadline: float | None = None
        try:
            if not ID.fullmatch(name):
                raise ValueError
            deadline = read_time(deadline_text)
        except ValueError:
            await answer(send, 400, {"state": "refused", "detail": "the id or the deadline cannot be read"})
            return None
        digest = hashlib.sha256(body).hexdigest()
        try:
            number = number_of(body) if kind is Kind.DIAL else None
            known = await self.in_journal(self.journal.open, kind, name, digest, number, deadline, now())
        except Exception as error:
            self._faults.note("journal", error)
            text = "the journal cannot be written; nothing was done"
            await answer(send, 503, {"state": "refused", "detail": text}, {"retry-after": "5"})
            return None
        if isinstance(known, Late):
            await answer(send, 410, {"state": "expired"})
        elif isinstance(known, Ask):
            await _repeat(known, digest, send)
        return True if known is None else None

    async def _hand_over(
        self, app: Any, scope: Scope, body: bytes, intent: str, answered: asyncio.Future[Answer]
    ) -> None:
        """Gives the request to the server. Its background work may go on after the answer."""
        CURRENT_INTENT.set(intent)
        given = False
        status, headers, reply = 500, list[tuple[bytes, bytes]](), bytearray()
        gone: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def receive() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await gone

        async def send(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", []))
            elif message["type"] == "http.response.body":
                reply.extend(message.get("body", b""))
                if not message.get("more_body") and not answered.done():
                    await self._write_down(intent, status, headers, bytes(reply))
                    answered.set_result(Answer(status, headers, bytes(reply)))

        try:
            await app(scope, receive, send)
        except Exception as error:
            # The server's own application has let an error through; uvicorn would say as much.
            log.error("the server failed to answer a dial: %s", type(error).__name__)
        finally:
            if not answered.done():
                with self._faults.contained("journal"):
                    await self.in_journal(self.journal.give_up, Kind.DIAL, intent)
                answered.set_result(Answer(500, [(b"content-type", b"application/json")], b'{"state":"unknown"}'))

    async def _write_down(
        self, intent: str, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        content_type = next((v.decode("latin-1") for k, v in headers if k.lower() == b"content-type"), "")
        text = body.decode("utf-8", "replace")
        with self._faults.contained("journal"):
            await self.in_journal(
                self.journal.close, Kind.DIAL, intent, status, content_type, text, call_of(text), now()
            )


async def _repeat(known: Ask, digest: str, send: Send) -> None:
    """Answers a repeat from the journal."""
    if known.digest != digest:
        await answer(send, 409, {"state": "conflict"}, REPEATED)
    elif known.state is not State.ANSWERED or known.status is None:
        await answer(send, 409, {"state": known.state.value}, REPEATED)
    else:
        payload = (known.body or "").encode()
        lines = {"content-type": known.content_type or "application/json",
                 "content-length": str(len(payload)), **REPEATED}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in lines.items()]
        await send({"type": "http.response.start", "status": known.status, "headers": raw})
        await send({"type": "http.response.body", "body": payload})


async def read_body(receive: Receive, length_max: int) -> bytes | None:
    """The whole body, or a little more than ``length_max`` of it; ``None`` when it was cut off."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body.extend(message.get("body", b""))
        if not message.get("more_body") or len(body) > length_max:
            return bytes(body)


def read_time(text: str | None) -> float | None:
    """RFC 3339 with a zone as seconds; raises ``ValueError`` for anything else."""
    if text is None:
        return None
    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-]\d\d:\d\d))", text.strip()
    )
    if found is None:
        raise ValueError("not a time with a zone")
    day, clock, fraction, zone = found.groups()
    # Python 3.10 reads six digits of a second, no more and no less, and no Z.
    micro = (fraction or "").ljust(6, "0")[:6]
    return datetime.fromisoformat(f"{day}T{clock}.{micro}{zone or '+00:00'}").timestamp()


def number_of(body: bytes) -> str | None:
    """The number that a request wants dialled, as the server will give it to Twilio."""
    try:
        number = json.loads(body).get("to")
    except (ValueError, AttributeError, RecursionError):
        return None
    return re.sub(r"[\s()-]", "", number) if isinstance(number, str) else None


def call_of(text: str) -> str | None:
    """The call that an answer of the server names."""
    try:
        name = json.loads(text).get("call_id")
    except (ValueError, AttributeError, RecursionError):
        return None
    return name if isinstance(name, str) and ID.fullmatch(name) else None
