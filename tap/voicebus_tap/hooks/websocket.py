"""websockets: the server's connections to OpenAI Realtime.

A frame is told apart by its first characters, without parsing it: audio and partial results are
most of the traffic and are never looked at. Everything else is appended to the queue as it is.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from ..context import CURRENT_STREAM
from ..observation import (
    TEXT_LENGTH_MAX,
    SocketClosed,
    SocketFrame,
    SocketOpened,
    SocketRefused,
    now,
)

if TYPE_CHECKING:
    from ..tap import Tap

#: Where the type of a frame stands; OpenAI writes it among the first fields.
_HEAD = 160

_numbers = itertools.count(1)


def telling(message: object) -> str | None:
    """The text of a frame that may tell something: neither audio nor a part of something."""
    if not isinstance(message, (str, bytes)) or len(message) > TEXT_LENGTH_MAX:
        return None
    head = message[:_HEAD] if isinstance(message, str) else message[:_HEAD].decode("utf-8", "replace")
    if '.delta"' in head or 'input_audio_buffer.append"' in head:
        return None
    return message if isinstance(message, str) else message.decode("utf-8", "replace")


def install(tap: Tap) -> None:
    """Wraps the asyncio client connection of websockets 13 and later."""
    connection: Any = importlib.import_module("websockets.asyncio.client").ClientConnection
    original_handshake, original_lost = connection.handshake, connection.connection_lost
    original_recv, original_send = connection.recv, connection.send
    sight, faults, sockets = tap.sight, tap.faults, tap.sockets

    def look(self: Any, message: object, sent: bool) -> None:
        number = getattr(self, "voicebus_number", None)
        if number is None:
            return
        with faults.contained("websocket frame"):
            text = telling(message)
            if text is not None:
                sight.put(SocketFrame(now(), number, text, sent))

    @functools.wraps(original_handshake)
    async def handshake(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            await original_handshake(self, *args, **kwargs)
        except Exception:
            with faults.contained("websocket refused"):
                call = _address(self)
                status = getattr(getattr(self, "response", None), "status_code", None)
                if call and isinstance(status, int):
                    sight.put(SocketRefused(now(), call, status))
            raise
        with faults.contained("websocket opened"):
            call = _address(self)
            if call is None:
                return
            stream = CURRENT_STREAM.get()
            self.voicebus_number = next(_numbers)
            sockets.add(self.voicebus_number, self)
            of_stream = stream.call if stream is not None else None
            sight.put(SocketOpened(now(), self.voicebus_number, call or of_stream, bool(call)))

    @functools.wraps(original_recv)
    async def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        message = await original_recv(self, *args, **kwargs)
        look(self, message, sent=False)
        return message

    @functools.wraps(original_send)
    async def send(self: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        look(self, message, sent=True)
        await original_send(self, message, *args, **kwargs)

    @functools.wraps(original_lost)
    def connection_lost(self: Any, *args: Any, **kwargs: Any) -> None:
        original_lost(self, *args, **kwargs)
        number = getattr(self, "voicebus_number", None)
        if number is not None:
            with faults.contained("websocket closed"):
                sockets.drop(number)
                sight.put(SocketClosed(now(), number))

    connection.handshake, connection.connection_lost = handshake, connection_lost
    connection.recv, connection.send = recv, send


def _address(connection: Any) -> str | None:
    """The call that the address names, ``""`` when it names none; ``None`` for another service."""
    request = getattr(connection, "request", None)
    if request is None:
        return None
    parts = urlsplit(request.path)
    if not parts.path.endswith("/realtime"):
        return None
    named: str = parse_qs(parts.query).get("call_id", [""])[0]
    return named
