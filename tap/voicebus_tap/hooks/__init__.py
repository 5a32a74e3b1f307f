"""What is wrapped in other people's libraries. The server's own code is never touched.

Each hook looks for what it needs; where a version lacks it, that is said once, and everything else
goes on. Calls are recognised by their path, not their host, so that a proxy, a regional address or
a stand-in makes no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..containment import log
from . import http, server, websocket

if TYPE_CHECKING:
    from ..tap import Tap


def install(tap: Tap) -> None:
    """Puts every hook in place, before the server's script runs; ``tap.missing`` names what cannot be."""
    hooks: dict[str, Callable[[Tap], None]] = {
        "uvicorn: requests, streams, the guard and the tap's own routes": server.install,
        "httpx: calls to OpenAI and the server's own emitter": http.install_httpx,
        "requests: calls to Twilio": http.install_requests,
        "websockets: what is said, context and say": websocket.install,
    }
    for what, put in hooks.items():
        try:
            put(tap)
        except Exception as error:  # whatever a strange version throws, the server must start
            tap.missing.append(what.split(":")[0])
            log.warning("not here: %s (%s)", what, type(error).__name__)
