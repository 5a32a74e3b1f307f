"""Nothing that the tap has seen is lost or doubled, whoever dies."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harness import Bus, number, until
from site_of import TALK, MakeSite, Site, frames
from vendors import free_port, turn


@pytest.fixture
def own_bus(tmp_path: Path) -> Iterator[Bus]:
    """A voicebus that the test may break; it comes back under the same address."""
    bus = Bus(tmp_path, "http://127.0.0.1:9", port=free_port())
    yield bus
    bus.stop()


def numbers_of(bus: Bus, call: str) -> list[int]:
    return [event["sequence"] for event in bus.of(call)]


def test_a_session_that_asks_for_a_call_has_it(site: Site, bus: Bus) -> None:
    asked = subprocess.run(
        [os.environ["VOICEBUS"], "call", number(60), "--session", "asked-for", "--json", *at(bus)],
        capture_output=True, text=True, timeout=60,
    )
    assert asked.returncode == 0, asked.stderr
    call = next(iter(site.vendors.calls))
    if site.kind == "v3":
        site.streams.answered(call)
        phone, socket = site.streams.talk(call)
    else:
        socket = site.sip.connected(site.sip.answered(call))
    socket.push(*frames())
    until(lambda: len(bus.said(call)) == 4, "not all words came")
    if site.kind == "v3":
        phone.hang_up()
    else:
        site.vendors.calls[call].status = "completed"
    bus.check_call(call, "hangup-user" if site.kind == "v3" else "completed", TALK)
    assert {e["sessionkey"] for e in bus.of(call)} == {"agent:main:asked-for"}
    assert site.vendors.creates == 1


def at(bus: Bus) -> list[str]:
    return ["--data-dir", str(bus.directory / "bus")]


def test_calls_that_die_with_the_server_are_ended_at_the_next_start(site: Site, bus: Bus) -> None:
    calls = [site.begin(70 + n) for n in range(3)]
    for call, socket in calls:
        socket.push(*turn("Hello?", "Good day."))
        until(lambda call=call: len(bus.said(call)) == 2, "the words did not come")
    site.server.process.kill()
    site.server.start()
    for call, _ in calls:
        bus.check_call(call, "error", [("user", "Hello?"), ("agent", "Good day.")])
        assert bus.of(call)[-1]["data"]["call"]["end_detail"] == "server-stopped"


def test_an_outbound_call_that_lives_on_without_the_server_is_followed_to_its_end(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2")
    call = site.dial(number(73))
    leg = site.sip.answered(call)
    until(lambda: "state.answered" in bus.kinds(call), "the call was not answered")
    site.server.process.kill()
    site.server.start()
    site.sip.connected(leg).push(*turn("Are you there?", "I am."))
    until(lambda: len(bus.said(call)) == 2, "nobody listens to the call that lives on")
    site.vendors.calls[call].status = "completed"
    bus.check_call(call, "completed", [("user", "Are you there?"), ("agent", "I am.")])


def test_the_tap_says_which_voicebus_it_delivers_to(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2")
    version = subprocess.run([os.environ["VOICEBUS"], "--version"], capture_output=True, text=True).stdout.split()[1]
    line = f"events go to voicebus {version} at {bus.http}"
    until(lambda: line in site.server.process.log.read_text(), lambda: site.server.process.log.read_text())


def test_a_server_that_is_stopped_delivers_what_it_has_seen(site: Site, bus: Bus) -> None:
    call, socket = site.begin(74)
    socket.push(*turn("Hello?", "Good day."))
    until(lambda: len(bus.said(call)) == 2, "the words did not come")
    assert site.server.stop() == -signal.SIGTERM
    site.server.start()
    bus.check_call(call, "error", [("user", "Hello?"), ("agent", "Good day.")])


@pytest.mark.parametrize("victim", ["voicebus", "nats"])
def test_an_outage_loses_and_doubles_nothing(make_site: MakeSite, own_bus: Bus, victim: str) -> None:
    site = make_site("v2", own_bus.http)
    before, socket = site.begin(80)
    socket.push(*turn("One?", "Two."))
    until(lambda: len(own_bus.said(before)) == 2, "the words did not come")
    if victim == "voicebus":
        own_bus.process.kill()
    else:
        os.kill(nats_of(own_bus), signal.SIGKILL)
    during = []
    for n in range(10):
        call, other = site.begin(81 + n)
        other.push(*[frame for r in range(5) for frame in turn(f"q{r}", f"a{r}")])
        site.sip.ended(call)
        during.append(call)
    socket.push(*turn("Three?", "Four."))
    site.sip.ended(before)
    if victim == "voicebus":
        until(lambda: site.server.status()["ingress"]["trouble"], "the tap did not notice")
        own_bus.stop()
        own_bus.start()
    site.server.settled()
    words = [pair for r in range(5) for pair in (("user", f"q{r}"), ("agent", f"a{r}"))]
    for call in during:
        own_bus.check_call(call, "completed", words)
    own_bus.check_call(before, "completed", [("user", "One?"), ("agent", "Two."), ("user", "Three?"), ("agent", "Four.")])


def nats_of(bus: Bus) -> int:
    """The nats-server that ``up`` has started."""
    children = Path(f"/proc/{bus.process.popen.pid}/task/{bus.process.popen.pid}/children").read_text().split()
    found = [int(pid) for pid in children if "nats-server" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(found) == 1, children
    return found[0]


def test_a_server_killed_while_the_ingress_is_away_keeps_what_it_has_seen(make_site: MakeSite, own_bus: Bus) -> None:
    site = make_site("v3", own_bus.http)
    own_bus.process.kill()
    call, socket = site.begin(95)
    socket.push(*frames())
    # Its start, answer, four turns and four utterances.
    until(lambda: site.server.status()["buffer"]["events"] == 10, lambda: str(site.server.status()))
    site.server.process.kill()
    own_bus.stop()
    own_bus.start()
    site.server.start()
    own_bus.check_call(call, "error", TALK)
    assert numbers_of(own_bus, call)[0] == 1


class Strange(BaseHTTPRequestHandler):
    """An ingress that answers the first sight of each event 503, and refuses one kind for ever."""

    seen: set[str] = set()
    taken: list[str] = []

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ids = {event["id"] for event in events}
        status = 200
        if not ids <= self.seen:
            self.seen.update(ids)
            status = 503
        elif any(event["type"].endswith("answered") for event in events):
            status = 422
        else:
            self.taken.extend(event["id"] for event in events)
        body = b'{"code":"strange"}'
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_an_event_that_is_refused_for_ever_does_not_stop_the_others(make_site: MakeSite) -> None:
    strange = ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=strange.serve_forever, daemon=True).start()
    site = make_site("v2", f"http://127.0.0.1:{strange.server_port}")
    call, socket = site.begin(96)
    socket.push(*turn("Hello?", "Good day."))
    site.sip.ended(call)
    site.server.settled()
    # 1 start, 2 answer (refused), 3 and 4 turns, 5 and 6 words, 7 end
    assert Strange.taken == [f"{call}-{n}" for n in (1, 3, 4, 5, 6, 7)]
    assert site.server.status()["ingress"]["refused"] == 1
    strange.shutdown()


def test_a_disk_that_stands_still_loses_nothing(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v3")
    with sqlite3.connect(site.server.directory / "tap" / "events.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        call, socket = site.begin(97)
        socket.push(*frames())
        until(lambda: site.server.status()["faults"].get("outbox"), "the disk did not stand still")
        other.execute("ROLLBACK")
    until(lambda: len(bus.said(call)) == 4, "not all words came")
    site.phones[0].hang_up()
    bus.check_call(call, "hangup-user", TALK)
    site.expected_faults = site.server.status()["faults"]


def test_a_full_disk_is_said_once_and_harms_nobody(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2")
    pid = site.server.process.popen.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    # No file may become longer than this, as if the disk had no room for more.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (256 * 1024, before[1]))
    calls, words = [], [pair for r in range(5) for pair in (("user", f"q{r}"), ("agent", f"a{r}"))]
    while "outbox" not in site.server.status()["faults"]:
        assert len(calls) < 100, site.server.status()
        call, socket = site.begin(100 + len(calls))
        socket.push(*[frame for r in range(5) for frame in turn(f"q{r}", f"a{r}")])
        site.sip.ended(call)
        calls.append(call)
    # The server goes on, and so does what the tap hears.
    last, socket = site.begin(99)
    socket.push(*frames())
    site.sip.ended(last)
    until(lambda: site.server.status()["faults"]["outbox"] > 2, "it was not tried again")
    assert site.server.http.get("/health").status_code == 200
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    bus.check_call(last, "completed", TALK)
    for call in calls:
        bus.check_call(call, "completed", words)
    site.server.settled()
    assert site.server.process.log.read_text().count("the buffer on disk cannot be written") == 1
    site.expected_faults = site.server.status()["faults"]
