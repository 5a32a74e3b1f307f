"""Asks Twilio about calls that nobody tells of, and ends calls at Twilio and OpenAI.

No version of the server asks Twilio for status callbacks, so without asking nobody would learn that a
call was busy, or is over. Asked are outbound calls, every two seconds until they are answered and
every five afterwards, except while their audio passes the server, which then knows more.
"""

from __future__ import annotations

import base64
import email.utils
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from .book import Book
from .containment import Faults
from .observation import CarrierDialled, CarrierFound, CarrierState, Sight, now
from .settings import Settings

if TYPE_CHECKING:
    from .recorder import Recorder

ASK_SECONDS = 2.0
ASK_ANSWERED_SECONDS = 5.0
#: When a call whose answer was lost is looked for in Twilio's list, in seconds after the dial.
LOOK_AFTER = (1.0, 4.0, 15.0, 60.0)
#: How far Twilio's clock and ours may be apart, and how long a dial takes until its answer is lost.
CLOCK_SECONDS = 40.0
_TIMEOUT = 5.0
_ANSWER_MAX = 1024 * 1024


class VendorError(Exception):
    """A vendor did not do it; the text has no number or token in it."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Carrier:
    """Twilio's REST API, and the one endpoint of OpenAI's that ends calls."""

    def __init__(self, settings: Settings) -> None:
        self.configured = bool(settings.twilio_account and settings.twilio_auth)
        self.model_configured = bool(settings.openai_key)
        self._calls = f"{settings.twilio_url}/2010-04-01/Accounts/{settings.twilio_account}/Calls"
        pair = f"{settings.twilio_account}:{settings.twilio_auth}".encode()
        self._login = {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        self._model = f"{settings.openai_url}/v1/realtime/calls"
        self._key = {"Authorization": f"Bearer {settings.openai_key}"}

    def status(self, call: str) -> str | None:
        """How a call is; ``None`` when Twilio does not know it."""
        try:
            status = self._ask(f"{self._calls}/{call}.json").get("status")
        except VendorError as error:
            if error.status == 404:
                return None
            raise
        return status if isinstance(status, str) else ""

    def calls_to(self, to: str, by: str | None, since: float) -> list[str]:
        """The newest calls to a number, from another if that is known, made since then."""
        query = urllib.parse.urlencode({"To": to, "PageSize": "20"} | ({"From": by} if by else {}))
        found = self._ask(f"{self._calls}.json?{query}").get("calls")
        calls = [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []
        return [
            str(call["sid"]) for call in calls
            if call.get("to") == to and by in (None, call.get("from")) and _is_since(call.get("date_created"), since)
        ]

    def end(self, call: str) -> None:
        """Ends a call, whatever its state. Raises ``VendorError``."""
        self._ask(f"{self._calls}/{call}.json", {"Status": "completed"})

    def end_at_model(self, call: str) -> None:
        """Ends a SIP call. Raises ``VendorError``."""
        _fetch(urllib.request.Request(f"{self._model}/{call}/hangup", b"", self._key, method="POST"), "OpenAI")

    def _ask(self, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        data = urllib.parse.urlencode(form).encode() if form else None
        answer = _fetch(urllib.request.Request(url, data, self._login), "Twilio")
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise VendorError("Twilio's answer cannot be read")
        return value


class Asker:
    """The thread that asks."""

    def __init__(self, carrier: Carrier, recorder: Recorder, sight: Sight, faults: Faults) -> None:
        self._carrier = carrier
        self._recorder = recorder
        self._sight = sight
        self._faults = faults
        self._stop = threading.Event()
        self._asked: dict[str, float] = {}
        self._looking: list[tuple[float, int, CarrierDialled]] = []

    def start(self) -> None:
        """Starts the thread, if there is an account to ask with."""
        if self._carrier.configured:
            threading.Thread(target=self._run, name="voicebus-carrier", daemon=True).start()

    def stop(self) -> None:
        """Asks no more."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            with self._faults.contained("carrier"):
                self._ask_about_calls()
                self._look_for_lost()

    def _ask_about_calls(self) -> None:
        at = now()

        def due(book: Book) -> list[tuple[str, float]]:
            return [
                (call.id, ASK_ANSWERED_SECONDS if call.answered else ASK_SECONDS)
                for call in book.calls.values()
                if call.at_carrier and not call.ended and not book.streams_of(call)
            ]

        calls = self._recorder.ask(due)
        self._asked = {name: self._asked[name] for name, _ in calls if name in self._asked}
        for name, pause in calls:
            if at - self._asked.get(name, 0.0) < pause or self._stop.is_set():
                continue
            self._asked[name] = at
            with self._faults.contained("carrier status"):
                self._sight.put(CarrierState(now(), name, self._carrier.status(name)))

    def _look_for_lost(self) -> None:
        """A call that was made although its answer was lost: the only unknown one between the two."""
        at = now()
        lost = self._recorder.ask(lambda book: book.take_lost())
        self._looking += [(dial.at + LOOK_AFTER[0], 0, dial) for dial in lost]
        waiting, self._looking = self._looking, []
        for due, tries, dial in waiting:
            if due > at:
                self._looking.append((due, tries, dial))
                continue
            found: list[str] = []
            with self._faults.contained("carrier list"):
                sids = self._carrier.calls_to(
                    dial.form.get("To", ""), dial.form.get("From"), dial.at - CLOCK_SECONDS
                )
                found = self._recorder.unknown_of(sids)
            if len(found) == 1:
                self._sight.put(CarrierFound(dial.at, found[0], dial.form, dial.intent))
            elif tries + 1 < len(LOOK_AFTER):
                self._looking.append((dial.at + LOOK_AFTER[tries + 1], tries + 1, dial))


def _is_since(created: object, since: float) -> bool:
    """Whether a call's date (RFC 2822) is not before ``since``; one without a date may be."""
    try:
        return email.utils.parsedate_to_datetime(str(created)).timestamp() >= since if created else True
    except (TypeError, ValueError):
        return True


def _fetch(request: urllib.request.Request, vendor: str) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
            body: bytes = reply.read(_ANSWER_MAX)
            return body
    except urllib.error.HTTPError as error:
        error.close()
        raise VendorError(f"{vendor} answered {error.code}", error.code) from None
    except (OSError, ValueError) as error:
        raise VendorError(f"{vendor} could not be asked ({type(error).__name__})") from None
