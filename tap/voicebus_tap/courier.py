"""The thread that delivers events to the ingress: in order, in batches, until each is accepted."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from . import __version__
from .containment import Faults, log
from .outbox import Outbox, Waiting

#: Back-off between tries, in seconds: doubled from the first to the last, with a fifth of chance.
BACK_OFF_MIN = 0.2
BACK_OFF_MAX = 5.0
#: How often the buffer is looked at when it is empty; looking is one comparison.
LOOK_SECONDS = 0.02
#: The ingress answers a batch within a second; while NATS is slow it may take longer.
TIMEOUT = 30.0
_ANSWER_MAX = 1024 * 1024
#: The versions of voicebus whose events this tap speaks.
INGRESS_VERSIONS = "0."


class Away(Exception):
    """The ingress did not take it; it is to be sent again. The text says why."""


class Refusal(Exception):
    """The ingress will never take it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Courier:
    """One connection to the ingress, kept open."""

    def __init__(self, ingress: str, token: str | None, outbox: Outbox, faults: Faults) -> None:
        parts = urlsplit(ingress)
        self._ingress = ingress
        self._secure = parts.scheme == "https"
        self._host, self._port, self._base = parts.hostname or "", parts.port, parts.path
        self._headers = {"User-Agent": f"voicebus-tap/{__version__}"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._outbox = outbox
        self._faults = faults
        self._connection: http.client.HTTPConnection | None = None
        self._stop = threading.Event()
        self.delivered = 0
        self.refused = 0
        #: As its answers say; empty while none has come.
        self.ingress_version = ""
        #: Why nothing is taken just now; ``None`` when all is well.
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="voicebus-courier", daemon=True)

    def start(self) -> None:
        """Starts the thread, which first looks whether the ingress is there and fits."""
        self._thread.start()

    def stop(self, wait_seconds: float) -> None:
        """Delivers what waits, for a bounded time."""
        ends = time.monotonic() + wait_seconds
        while self._outbox.depth()[0] and time.monotonic() < ends and self._thread.is_alive():
            time.sleep(0.02)
        self._stop.set()
        self._thread.join(max(0.1, ends - time.monotonic()))

    def _run(self) -> None:
        self._greet()
        pause = BACK_OFF_MIN
        while not self._stop.is_set():
            try:
                batch = self._outbox.peek() if self._outbox.depth()[0] else []
                if batch:
                    self._deliver(batch)
                self._well()
                pause = BACK_OFF_MIN
                if not batch:
                    self._stop.wait(LOOK_SECONDS)
            except Away as away:
                self._unwell(str(away))
                self._stop.wait(pause * random.uniform(0.8, 1.2))
                pause = min(pause * 2, BACK_OFF_MAX)
            except Exception as error:
                self._faults.note("courier", error)
                self._stop.wait(1.0)

    def _deliver(self, batch: list[Waiting]) -> None:
        """Sends a batch; one that is refused is sent event by event, to find out which is meant."""
        try:
            self._post("[" + ",".join(one.body for one in batch) + "]")
        except Refusal as refusal:
            if len(batch) > 1:
                for one in batch:
                    self._deliver([one])
                return
            self.refused += 1
            self._outbox.remove(batch, refused_as=refusal.code)
            log.error("the ingress refused an event (%s); it is kept in the table `refused`", refusal.code)
            return
        self._outbox.remove(batch)
        self.delivered += len(batch)

    def _post(self, body: str) -> None:
        """Sends a batch of events; raises what became of it otherwise."""
        status, answer = self._exchange(body.encode())
        if status == 200:
            return
        code = str(answer.get("code", ""))[:64]
        if status in (400, 413, 415, 422):
            raise Refusal(code or str(status))
        if status in (401, 403):
            raise Away("it does not accept the token; set VOICEBUS_EVENT_TOKEN to the ingress's own")
        if status == 404:
            raise Away("there is no /v1/events; is that a voicebus ingress?")
        raise Away(f"it answered {status} {code}".rstrip())

    def _exchange(self, body: bytes) -> tuple[int, dict[str, Any]]:
        headers = self._headers | {"Content-Type": "application/cloudevents-batch+json"}
        while True:
            kept = self._connection is not None
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.request("POST", self._base + "/v1/events", body, headers)
                reply = self._connection.getresponse()
                answer = reply.read(_ANSWER_MAX)
                break
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                # A connection that was kept may have been closed at the other end since, which says
                # nothing about the ingress. Sending twice does no harm: events have ids.
                if not kept:
                    raise Away(f"it cannot be reached ({type(error).__name__})") from None
        if reply.will_close:
            self._hang_up()
        self.ingress_version = reply.getheader("voicebus-version", "")[:64]
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        return reply.status, value if isinstance(value, dict) else {}

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _greet(self) -> None:
        """Says once how the ingress is: reachable, the token right, the version one that fits."""
        try:
            self._post("[]")
            version = self.ingress_version
            if version and not version.startswith(INGRESS_VERSIONS):
                log.warning("voicebus %s is not known to this tap (%s); look for a newer tap", version, __version__)
            log.info("events go to voicebus %s at %s", version or "(of unknown version)", self._ingress)
        except (Away, Refusal) as error:
            self._unwell(str(error))
        except Exception as error:
            self._faults.note("courier", error)

    def _well(self) -> None:
        if self.trouble is not None:
            log.info("the ingress takes events again")
        self.trouble = None

    def _unwell(self, why: str) -> None:
        if self.trouble != why:
            log.warning("the ingress at %s: %s; events wait on disk", self._ingress, why)
        self.trouble = why
