"""What the server is working on: how a hook deep in a library knows which call it sees.

Python hands these variables down to whatever a request starts, so ten calls at once stay apart.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass
class Stream:
    """The media stream whose handler is running; its call is known once it has started."""

    number: int
    call: str | None = None


#: Set by the door while the server handles a media stream.
CURRENT_STREAM: ContextVar[Stream | None] = ContextVar("voicebus_stream", default=None)

#: The intent whose request the server works on; set by the guard.
CURRENT_INTENT: ContextVar[str | None] = ContextVar("voicebus_intent", default=None)


class Sockets:
    """The server's open connections to OpenAI, so that something can be said on them."""

    def __init__(self) -> None:
        self._open: dict[int, Any] = {}
        self._lock = threading.Lock()

    def add(self, number: int, connection: Any) -> None:
        """Takes one in."""
        with self._lock:
            self._open[number] = connection

    def drop(self, number: int) -> None:
        """Forgets one that is closed."""
        with self._lock:
            self._open.pop(number, None)

    def get(self, number: int) -> Any:
        """The connection (``websockets``' own object); ``None`` when it is gone."""
        with self._lock:
            return self._open.get(number)
