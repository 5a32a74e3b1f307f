"""Outgoing HTTP: httpx (OpenAI, and the server's own emitter) and requests (Twilio's SDK)."""

from __future__ import annotations

import functools
import importlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from ..context import CURRENT_INTENT
from ..observation import (
    CarrierDialled,
    CarrierState,
    Emitted,
    ModelAnswered,
    Observation,
    now,
)

if TYPE_CHECKING:
    from ..tap import Tap

_DIAL = re.compile(r"/2010-04-01/Accounts/[^/]+/Calls\.json$")
_UPDATE = re.compile(r"/2010-04-01/Accounts/[^/]+/Calls/(CA[0-9a-fA-F]{32})\.json$")
_MODEL = re.compile(r"/realtime/calls/([A-Za-z0-9_-]{1,128})/(accept|reject|hangup)$")
_EMITTER = re.compile(r"/call-event$")
_STATUS = re.compile(rb'"status"\s*:\s*"([a-z-]+)"')


def read(method: str, url: str, body: bytes, status: int | None, answer: bytes) -> Observation | None:
    """What an outgoing request and its answer tell; ``status`` is ``None`` when there was none."""
    if method != "POST":
        return None
    path = urlsplit(url).path
    if _DIAL.search(path):
        return CarrierDialled(now(), _form(body), status, answer, CURRENT_INTENT.get())
    if (update := _UPDATE.search(path)) and status is not None and status < 300:
        found = _STATUS.search(answer)
        ended = _form(body).get("Status") == "completed"
        state = found.group(1).decode() if found else "unknown"
        return CarrierState(now(), update.group(1), state, ended_by_us=ended)
    if model := _MODEL.search(path):
        return ModelAnswered(now(), model.group(1), model.group(2), status)
    return None


def install_httpx(tap: Tap) -> None:
    """Wraps ``send`` of both clients, through which every request of httpx passes."""
    httpx: Any = importlib.import_module("httpx")
    original, original_async = httpx.Client.send, httpx.AsyncClient.send

    def emitted(request: Any) -> Any:
        """What the server's emitter says goes the tap's way: through its buffer, in its order."""
        with tap.faults.contained("httpx"):
            if request.method == "POST" and _EMITTER.search(request.url.path):
                tap.sight.put(Emitted(now(), bytes(request.content)))
                return httpx.Response(200, json={"status": "accepted"}, request=request)
        return None

    def note(request: Any, response: Any) -> None:
        with tap.faults.contained("httpx"):
            # The body of a streamed one is not there yet, and none that matters is streamed.
            body, answer = getattr(request, "_content", b""), getattr(response, "_content", b"")
            status = None if response is None else response.status_code
            seen = read(request.method, str(request.url), body, status, answer)
            if seen is not None:
                tap.sight.put(seen)

    @functools.wraps(original)
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if (answer := emitted(request)) is not None:
            return answer
        response = None
        try:
            response = original(self, request, *args, **kwargs)
            return response
        finally:
            note(request, response)

    @functools.wraps(original_async)
    async def send_async(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if (answer := emitted(request)) is not None:
            return answer
        response = None
        try:
            response = await original_async(self, request, *args, **kwargs)
            return response
        finally:
            note(request, response)

    httpx.Client.send, httpx.AsyncClient.send = send, send_async


def install_requests(tap: Tap) -> None:
    """Wraps ``Session.send``, which Twilio's SDK uses."""
    session: Any = importlib.import_module("requests").Session
    original = session.send

    @functools.wraps(original)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        response = None
        try:
            response = original(self, request, **kwargs)
            return response
        finally:
            with tap.faults.contained("requests"):
                body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
                status = None if response is None else response.status_code
                answer = b"" if response is None or kwargs.get("stream") else response.content
                seen = read(str(request.method), str(request.url), body, status, answer)
                if seen is not None:
                    tap.sight.put(seen)

    session.send = send


def _form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
