"""A server of one kind under the tap, with its vendors and its callers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from harness import SERVERS, Phone, Server, Sip, Streams, number
from vendors import Realtime, Vendors, free_port, turn

#: Where the voicebus of all tests believes its voice server to be; each test listens there in turn.
SHARED_PORT = free_port()

TALK = [("user", "Is the shop open?"), ("agent", "Yes, until six."), ("user", "Thanks."), ("agent", "Bye.")]


def frames(old: bool = True) -> list[dict[str, Any]]:
    return [*turn("Is the shop open?", "Yes, until six.", old=old), *turn("Thanks.", "Bye.", old=old, late=False)]


class Site:
    """A server of one kind, and who calls it. ``kind``: v1, v2 (SIP) or v3 (media streams)."""

    def __init__(
        self, kind: str, directory: Path, vendors: Vendors, ingress: str, *, port: int = SHARED_PORT,
        options: list[str] | None = None, token: str | None = None, **environment: str,
    ) -> None:
        script = SERVERS / ("stream_server.py" if kind == "v3" else "sip_server.py")
        environment.setdefault("LISTENS", "1" if kind == "v2" else "0")
        self.kind, self.vendors = kind, vendors
        vendors.session = {"input_audio_transcription": {"model": "whisper-1"}}
        self.server = Server(
            directory, script, vendors, ingress, port=port, environment=environment, options=options, token=token
        )
        self.phones: list[Phone] = []
        #: What the tap may have contained by the end of the test.
        self.expected_faults: dict[str, int] = {}
        self.sip, self.streams = Sip(self.server, vendors), Streams(self.server, vendors)

    def dial(self, to: str) -> str:
        """Places a call past voicebus; gives Twilio's id."""
        answer = self.server.http.post("/call", json={"to": to}, headers=self.server.headers)
        answer.raise_for_status()
        return str(answer.json()["call_id"])

    def begin(self, n: int) -> tuple[str, Realtime]:
        """Somebody calls, and talks with the assistant; gives the call and its connection to OpenAI."""
        if self.kind == "v3":
            call = self.streams.incoming(number(n))
            phone, socket = self.streams.talk(call)
            self.phones.append(phone)
            return call, socket
        call = self.sip.incoming(number(n))
        return call, self.sip.connected(call)


class MakeSite(Protocol):
    """Makes sites that leave with the test."""

    def __call__(self, kind: str, ingress: str | None = None, **more: Any) -> Site: ...
