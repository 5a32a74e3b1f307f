"""The ASGI application around the server's own: who may come in, and what is watched.

Everything that the server is asked and answers passes unchanged, but for one header on the answers.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from . import CONTRACT_VERSION
from .context import CURRENT_STREAM, Stream
from .observation import Exchange, StreamEnded, StreamStarted, now

if TYPE_CHECKING:
    from .tap import Tap

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MARK = (b"x-voicebus-tap", CONTRACT_VERSION.encode())
#: Below this path the tap answers itself.
OWN = "/voicebus/"
#: The server's routes that ring a phone.
DIALS = frozenset({"/call", "/call/meet"})
#: The server's routes that the vendors call.
_WATCHED = frozenset({"/webhook", "/voice/incoming", "/voice/status", "/twiml/outbound"})
#: The server's routes that dial, end calls, or read who called; none of them is called by a vendor.
_PROTECTED = re.compile(r"/(calls?|history)(/.*)?")
#: Of a request or an answer, as much is looked at.
_LOOK_MAX = 256 * 1024
#: Marks of a proxy: with one of them, a loopback address is the proxy's, not the sender's.
_PROXIED = ("x-forwarded-for", "forwarded", "cf-connecting-ip", "x-real-ip")
#: How a stream ended whose end was not told: 1006, it broke off; 1012, uvicorn itself is leaving.
_CLOSED = {1006: "broken", 1012: "stopping"}
_numbers = itertools.count(1)


class Door:
    """An ASGI 3 application."""

    def __init__(self, app: Any, tap: Tap) -> None:
        self.app = app
        self.tap = tap

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        send = marked(send)
        headers = headers_of(scope)
        if path.startswith(OWN):
            if (refusal := self._refusal(scope, headers)) is not None:
                await answer(send, *refusal)
            else:
                await self.tap.routes.answer(scope, headers, receive, send)
        elif method == "POST" and path in DIALS and "x-intent-id" in headers:
            if (refusal := self._refusal(scope, headers)) is not None:
                await answer(send, *refusal)
            else:
                await self.tap.guard.dial(self.app, scope, headers, receive, send)
        elif self.tap.settings.protect and _PROTECTED.fullmatch(path) and not self._has_token(headers):
            await answer(send, 401, {"detail": "this route needs the token"})
        elif path in _WATCHED:
            await self._watched(scope, headers, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, dict[str, str]] | None:
        """Why the tap's own doors stay shut for a request."""
        if self.tap.settings.token is not None:
            return None if self._has_token(headers) else (401, {"detail": "this route needs the token"})
        return None if is_loopback(scope, headers) else (403, {"detail": "without a token, loopback only"})

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        token = self.tap.settings.token
        if token is None or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(_digest(given.strip()), _digest(token))

    async def _watched(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        # Read here, because not every route of the server reads what it is sent.
        body, reply, messages = bytearray(), bytearray(), list[Message]()
        status = 500
        while True:
            messages.append(await receive())
            body.extend(messages[-1].get("body", b""))
            if not messages[-1].get("more_body") or len(body) > _LOOK_MAX:
                break

        async def receive_again() -> Message:
            return messages.pop(0) if messages else await receive()

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                if len(reply) < _LOOK_MAX:
                    reply.extend(message.get("body", b"")[:_LOOK_MAX])
                if not message.get("more_body"):
                    # Before the answer leaves: what it leads to must not be seen first.
                    with self.tap.faults.contained("exchange"):
                        self.tap.sight.put(Exchange(
                            now(), scope["method"], scope["path"], scope["query_string"].decode("latin-1"),
                            headers.get("content-type", ""), bytes(body), status, bytes(reply),
                        ))
            await send(message)

        await self.app(scope, receive_again, send_and_look)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = Stream(next(_numbers))
        ends: list[str] = []

        def over(how: str) -> None:
            if not ends:
                ends.append(how)
                self.tap.streams.pop(stream.number, None)
                if stream.call is not None:
                    self.tap.sight.put(StreamEnded(now(), stream.number, how))

        async def receive_and_look() -> Message:
            message = await receive()
            with self.tap.faults.contained("stream"):
                if message["type"] == "websocket.disconnect":
                    over(_CLOSED.get(message.get("code", 1005), "closed"))
                elif message.get("text") and is_control(message["text"]):
                    frame = json.loads(message["text"])
                    if frame.get("event") == "start":
                        stream.call = str(frame["start"]["callSid"])
                        self.tap.streams[stream.number] = send
                        self.tap.sight.put(StreamStarted(now(), stream.number, stream.call))
                    elif frame.get("event") == "stop":
                        over("stop")
            return message

        async def send_and_look(message: Message) -> None:
            if message["type"] == "websocket.close":
                with self.tap.faults.contained("stream"):
                    code = message.get("code", 1000)
                    over("server" if code in (1000, 1001) else "server-error")
            await send(message)

        token = CURRENT_STREAM.set(stream)
        try:
            await self.app(scope, receive_and_look, send_and_look)
        except Exception:
            over("server-error")
            raise
        finally:
            over("server")
            CURRENT_STREAM.reset(token)


def is_control(text: str) -> bool:
    """Whether a frame of a media stream may be its start or stop: told by its first characters."""
    head = text[:64]
    return '"start"' in head or '"stop"' in head


def is_loopback(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine and from nobody behind it."""
    client = scope.get("client")
    if client is None:
        return True  # a Unix socket
    if any(name in headers for name in _PROXIED):
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def headers_of(scope: Scope) -> dict[str, str]:
    """The headers, by lower-case name; of a repeated one the values joined, which no token or id has."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def marked(send: Send) -> Send:
    """The same, with the tap's header on the answer."""

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), MARK]}
        await send(message)

    return send_marked


async def answer(
    send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    """Sends a JSON answer."""
    payload = json.dumps(body, ensure_ascii=False).encode()
    lines = {"content-type": "application/json", "content-length": str(len(payload)), **(headers or {})}
    if status == 401:
        lines["www-authenticate"] = "Bearer"
    raw = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": payload})


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
