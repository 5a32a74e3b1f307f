"""What the tests share: a real voicebus, its public feed, a voice server under the tap, and callers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import nats
import websockets.sync.client
from vendors import Realtime, Vendors, free_port

OURS = "+15005550006"
SERVERS = Path(__file__).parent / "servers"
TOKEN = "tap-token-of-the-tests"


def until(what: Callable[[], Any], said: str, seconds: float = 30.0) -> Any:
    """Waits for a condition and gives its value; fails with ``said`` when it does not come true."""
    ends = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < ends, said() if callable(said) else said
        time.sleep(0.02)
    return value


def number(n: int) -> str:
    """A number that is set aside for fiction."""
    return f"+1201555{100 + n:04d}"


class Process:
    """A process of the tests, which leaves with them."""

    def __init__(self, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with open(log, "ab") as file:
            self.popen = subprocess.Popen(
                arguments, env={**os.environ, **environment}, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent
            )

    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def stop(self) -> int:
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self.popen.returncode)


class Bus:
    """``voicebus up``, and everything that its public feed has said."""

    def __init__(
        self, directory: Path, voice_server: str, port: int = 0, environment: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        self._environment = {"VOICEBUS_LOG": "warn", **(environment or {})}
        self._arguments = [
            os.environ["VOICEBUS"], "up", "--data-dir", str(directory / "bus"), "--listen", f"127.0.0.1:{port}",
            "--nats-listen", "127.0.0.1:0", "--voice-server", voice_server, "--own-numbers", OURS,
        ]
        self.events: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        run = self.directory / "bus" / "run.json"
        run.unlink(missing_ok=True)
        self.process = Process(self._arguments, self._environment, self.directory / "bus.log")
        until(lambda: run.exists() or not self.process.alive(), "voicebus did not start", 60)
        assert self.process.alive(), self.process.log.read_text()
        self.run = json.loads(run.read_text())
        self.http = self.run["http"]
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)
        self._thread.start()
        assert self._listening.wait(20)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self.process.stop()

    async def _listen(self) -> None:
        client = await nats.connect(self.run["observer"])
        # Read back from the stream: also what was said while nobody listened.
        seen = {event["id"] for event in self.events}
        feed = await client.jetstream().subscribe("voice.event.>", stream="VOICE_EVENT", ordered_consumer=True)
        self._listening.set()
        while not self._stop.is_set():
            with suppress(asyncio.TimeoutError, nats.errors.TimeoutError):
                message = await feed.next_msg(timeout=0.2)
                event = json.loads(message.data)
                if event["id"] not in seen:
                    self.events.append(event)
        with suppress(Exception):
            await client.close()

    def tool(self, *words: str) -> tuple[int, str]:
        """Runs one of voicebus's tools for people; gives its exit code and what it said."""
        arguments = [os.environ["VOICEBUS"], *words, "--data-dir", str(self.directory / "bus")]
        ran = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
        return ran.returncode, ran.stdout + ran.stderr

    def store(self, subject: str, body: dict[str, Any], times: int = 1) -> None:
        """Stores a command as an agent does, so often; the stream takes each for another."""
        passwords = json.loads((self.directory / "bus" / "credentials.json").read_text())

        async def store() -> None:
            client = await nats.connect(
                self.run["nats"], user="agent", password=passwords["agent"], inbox_prefix=b"_INBOX_agent"
            )
            stream = client.jetstream()
            payload = json.dumps(body).encode()
            headers = ({"Nats-Msg-Id": secrets.token_hex(8)} for _ in range(times))
            await asyncio.gather(*(stream.publish(subject, payload, headers=h) for h in headers))
            await client.close()

        asyncio.run(store())

    def told(self, command: str) -> list[str]:
        """What was told of a command."""
        return [event["data"]["command"]["status"] for event in self.of(command)]

    def of(self, call: str) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event["subject"] == call]

    def kinds(self, call: str) -> list[str]:
        """What was told of a call, without the marks of turns and what only sums up."""
        kinds = [event["type"].removeprefix("openclaw.voice.") for event in self.of(call)]
        return [kind for kind in kinds if not kind.startswith(("audio.", "transcript.completed"))]

    def said(self, call: str) -> list[tuple[str, str]]:
        return [
            (event["type"].rsplit(".", 1)[-1], event["data"]["transcript"]["text"])
            for event in self.of(call) if event["type"].rsplit(".", 1)[-1] in ("user", "agent")
        ]

    def end(self, call: str) -> str | None:
        ends = [e for e in self.of(call) if e["type"].endswith(("state.ended", "state.failed"))]
        assert len(ends) <= 1, ends
        return ends[0]["data"]["call"]["end_reason"] if ends else None

    def calls(self) -> set[str]:
        """The calls on the feed; a command's own log is no call."""
        return {e["subject"] for e in list(self.events) if ".command." not in e["type"]}

    def check_call(self, call: str, reason: str, said: list[tuple[str, str]]) -> None:
        """One call: a beginning, its words in order, one end with its reason; nothing twice."""
        until(lambda: self.end(call), lambda: f"{call} has no end: {self.kinds(call)}")
        assert self.end(call) == reason, self.of(call)[-1]
        until(lambda: len(self.said(call)) >= len(said), lambda: f"{call}: {self.said(call)}")
        assert self.said(call) == said
        kinds = self.kinds(call)
        assert kinds.count("state.initiated") == 1, kinds
        assert [event["sequence"] for event in self.of(call)] == list(range(1, len(self.of(call)) + 1))
        assert "error.occurred" not in kinds


class Server:
    """A voice server under the tap, in a process of its own."""

    def __init__(
        self, directory: Path, script: Path, vendors: Vendors, ingress: str, *, port: int = 0,
        environment: dict[str, str] | None = None, options: list[str] | None = None, script_arguments: list[str] | None = None,
        token: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.directory = directory
        self._arguments = [
            sys.executable, "-m", "voicebus_tap", "--ingress", ingress, "--data-dir", str(directory / "tap"),
            "--twilio-url", vendors.url, "--openai-url", vendors.url, *(options or []), str(script),
            *(script_arguments or []),
        ]
        self._environment = {
            "PORT": str(self.port), "VENDORS": vendors.url, "OPENCLAW_BRIDGE_URL": ingress,
            "PUBLIC_URL": self.url, "TWILIO_ACCOUNT_SID": "AC" + "0" * 32, "TWILIO_AUTH_TOKEN": "secret",
            "TWILIO_PHONE_NUMBER": OURS, "ALLOW_INBOUND_CALLS": "true", "OPENAI_API_KEY": "key", "OPENAI_PROJECT_ID": "proj",
            **(environment or {}),
        }
        if token is not None:
            self._environment["VOICEBUS_TAP_TOKEN"] = token
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A connection for each request, as from many senders.
        self.http = httpx.Client(base_url=self.url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
        self.start()

    def start(self) -> None:
        self.process = Process(self._arguments, self._environment, self.directory / "server.log")
        until(lambda: self._up() or not self.process.alive(), "the voice server did not start", 60)
        assert self.process.alive(), self.process.log.read_text()

    def stop(self) -> int:
        return self.process.stop()

    def status(self) -> dict[str, Any]:
        return dict(self.http.get("/voicebus/status", headers=self.headers).json())

    def settled(self) -> None:
        """Waits until everything seen so far is with the ingress."""
        def empty() -> bool:
            status = self.status()
            return status["buffer"]["events"] == 0 and status["queue"]["observations"] == 0
        until(empty, lambda: f"not delivered: {self.status()}")

    def _up(self) -> bool:
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False


def callback(server: Server, path: str, form: dict[str, str]) -> None:
    """Twilio calls back, signed."""
    text = server.url + path + "".join(key + form[key] for key in sorted(form))
    mac = base64.b64encode(hmac.new(b"secret", text.encode(), hashlib.sha1).digest()).decode()
    server.http.post(path, data=form, headers={"X-Twilio-Signature": mac}).raise_for_status()


class Sip:
    """What Twilio and OpenAI do to a server of the SIP kind."""

    def __init__(self, server: Server, vendors: Vendors) -> None:
        self.server, self.vendors = server, vendors

    def incoming(self, caller: str) -> str:
        """OpenAI announces a call from somebody; gives its id."""
        name = "rtc_" + secrets.token_hex(8)
        event = {"id": "evt_" + name, "type": "realtime.call.incoming", "data": {"call_id": name, "sip_headers": [
            {"name": "From", "value": f'"Somebody" <sip:{caller}@sip.example.com>;tag=x1'},
            {"name": "To", "value": f"<sip:{OURS}@sip.example.com>"}]}}
        self.server.http.post("/webhook", json=event).raise_for_status()
        return name

    def connected(self, name: str) -> Realtime:
        """Waits until somebody listens to a call at OpenAI."""
        socket: Realtime = until(lambda: self.vendors.socket_of(name), f"nobody listens to {name}")
        return socket

    def ended(self, name: str) -> None:
        """OpenAI says that a call is over."""
        event = {"id": "evt_end", "type": "realtime.call.ended", "data": {"call_id": name}}
        self.server.http.post("/webhook", json=event).raise_for_status()

    def answered(self, sid: str, leg_from: str | None = None) -> str:
        """The callee picks up; Twilio asks what to do, and dials OpenAI. Gives OpenAI's id."""
        call = self.vendors.calls[sid]
        call.status = "in-progress"
        # The first version gave Twilio the address of OpenAI itself, so Twilio asks nobody.
        if not call.form["Url"].startswith("sip:"):
            path = call.form["Url"].split("/", 3)[-1]
            form = {"CallSid": sid, "CallStatus": "in-progress", "From": OURS, "To": call.form["To"],
                    "Direction": "outbound-api"}
            self.server.http.post("/" + path, data=form).raise_for_status()
        return self.incoming(leg_from or call.form["To"])


class Phone:
    """Twilio's side of one media stream."""

    def __init__(self, server: Server, sid: str) -> None:
        address = server.url.replace("http", "ws") + "/media-stream"
        self.sid = sid
        self.connection = websockets.sync.client.connect(address, open_timeout=20).__enter__()
        self.send({"event": "connected", "protocol": "Call"})
        self.send({"event": "start", "sequenceNumber": "1", "streamSid": "MZ" + sid[2:], "start": {
            "streamSid": "MZ" + sid[2:], "accountSid": "AC" + "0" * 32, "callSid": sid, "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}}})

    def send(self, frame: dict[str, Any]) -> None:
        self.connection.send(json.dumps(frame))

    def audio(self, frames: int = 5) -> None:
        for n in range(frames):
            self.send({"event": "media", "sequenceNumber": str(n + 2), "media": {"track": "inbound", "payload": "/" * 216}})

    def hang_up(self) -> None:
        self.send({"event": "stop", "streamSid": "MZ" + self.sid[2:], "stop": {"callSid": self.sid}})
        self.connection.close()


class Streams:
    """What Twilio does to a server of the media-stream kind."""

    def __init__(self, server: Server, vendors: Vendors) -> None:
        self.server, self.vendors = server, vendors

    def incoming(self, caller: str) -> str:
        """Somebody calls our number; gives Twilio's id."""
        from vendors import Dialled

        sid = "CA" + secrets.token_hex(16)
        self.vendors.calls[sid] = Dialled(sid, {"To": OURS, "From": caller}, "in-progress")
        form = {"CallSid": sid, "CallStatus": "ringing", "From": caller, "To": OURS, "Direction": "inbound"}
        self.server.http.post("/voice/incoming", data=form).raise_for_status()
        return sid

    def answered(self, sid: str) -> None:
        """The callee picks up; Twilio asks what to do."""
        call = self.vendors.calls[sid]
        call.status = "in-progress"
        form = {"CallSid": sid, "CallStatus": "in-progress", "From": OURS, "To": call.form["To"], "Direction": "outbound-api"}
        self.server.http.post("/voice/incoming", data=form).raise_for_status()

    def talk(self, sid: str) -> tuple[Phone, Realtime]:
        """The audio begins; gives both ends of it."""
        count = len(self.vendors.sockets)
        phone = Phone(self.server, sid)
        until(lambda: len(self.vendors.sockets) > count, "the server did not connect to OpenAI")
        socket = self.vendors.sockets[count]
        until(lambda: "session.update" in socket.heard_types(), "the server did not set its session")
        return phone, socket
