"""One intent rings one phone, whatever is repeated, cut off or killed."""

from __future__ import annotations

import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from harness import TOKEN, Bus, number, until
from site_of import MakeSite, Site


def later(seconds: float = 60) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


def dial(site: Site, intent: str, *, to: str = number(1), deadline: str | None = None, **headers: str) -> httpx.Response:
    lines = {"X-Intent-Id": intent, "X-Intent-Deadline": deadline or later(), **site.server.headers, **headers}
    return site.server.http.post("/call", json={"to": to}, headers=lines)


def intent_of(site: Site, intent: str) -> dict[str, Any]:
    answer = site.server.http.get(f"/voicebus/intents/{intent}", headers=site.server.headers)
    assert (answer.status_code, answer.headers["x-voicebus-tap"]) == (200, "1")
    return dict(answer.json())


def test_a_hundred_repeats_ring_one_phone(site: Site) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: dial(site, "wish-100"), range(100)))
    assert site.vendors.creates == 1
    assert {a.status_code for a in answers} <= {200, 409}
    assert {a.json()["state"] for a in answers if a.status_code == 409} <= {"open"}
    first = [a for a in answers if a.headers.get("x-voicebus-repeat") is None]
    assert len(first) == 1
    again = dial(site, "wish-100")
    assert (again.status_code, again.content) == (200, first[0].content)
    assert again.headers["x-voicebus-repeat"] == "1"
    known = intent_of(site, "wish-100")
    assert known["state"] == "answered" and known["repeats"] == 100
    assert known["call_id"] == first[0].json()["call_id"] and known["status"] == 200


def test_the_same_intent_with_another_body_is_a_conflict(make_site: MakeSite) -> None:
    site = make_site("v3")
    assert dial(site, "wish-1").status_code == 200
    other = dial(site, "wish-1", to=number(2))
    assert (other.status_code, other.json()) == (409, {"state": "conflict"})
    assert site.vendors.creates == 1


def test_a_late_intent_is_refused_but_a_late_repeat_is_answered(make_site: MakeSite) -> None:
    site = make_site("v2")
    late = dial(site, "late", deadline=later(-1))
    assert (late.status_code, late.json()) == (410, {"state": "expired"})
    assert intent_of(site, "late")["state"] == "unseen"
    assert dial(site, "wish-2").status_code == 200
    assert dial(site, "wish-2", deadline=later(-1)).status_code == 200
    assert site.vendors.creates == 1


@pytest.mark.parametrize("headers", [
    {"X-Intent-Id": "a b"}, {"X-Intent-Id": "x" * 129}, {"X-Intent-Deadline": "soon"},
    {"X-Intent-Deadline": "2026-11-22T12:00:00"},
])
def test_what_cannot_be_read_is_refused(make_site: MakeSite, headers: dict[str, str]) -> None:
    site = make_site("v2")
    lines = {"X-Intent-Id": "good", "X-Intent-Deadline": later(), **headers}
    answer = site.server.http.post("/call", json={"to": number(1)}, headers=lines)
    assert (answer.status_code, answer.json()["state"]) == (400, "refused")
    assert site.vendors.creates == 0


def test_an_intent_open_at_a_crash_is_unknown_and_stays_so(site: Site, bus: Bus) -> None:
    site.vendors.dialling = "hold"
    threading.Thread(target=lambda: pytest.raises(httpx.TransportError, dial, site, "wish-3"), daemon=True).start()
    until(lambda: site.vendors.creates == 1, "nothing was dialled")
    site.server.process.kill()
    site.vendors.release()
    site.server.start()
    again = dial(site, "wish-3")
    assert (again.status_code, again.json()) == (409, {"state": "unknown"})
    assert intent_of(site, "wish-3")["state"] == "unknown"
    assert site.vendors.creates == 1
    # The carrier knows what became of it.
    call = next(iter(site.vendors.calls))
    until(lambda: intent_of(site, "wish-3").get("call_id") == call, lambda: str(intent_of(site, "wish-3")))
    until(lambda: bus.kinds(call)[:1] == ["state.initiated"], lambda: f"{bus.kinds(call)}")


def test_a_call_whose_answer_the_server_lost_is_found_at_the_carrier(site: Site, bus: Bus) -> None:
    site.vendors.dialling = "lose"
    lost = dial(site, "wish-4", to=number(44))
    assert lost.status_code == 500
    call = next(iter(site.vendors.calls))
    until(lambda: intent_of(site, "wish-4").get("call_id") == call, lambda: str(intent_of(site, "wish-4")))
    until(lambda: bus.kinds(call)[:1] == ["state.initiated"], lambda: f"{bus.kinds(call)}")
    assert dial(site, "wish-4", to=number(44)).status_code == 500 and site.vendors.creates == 1


def test_a_client_that_goes_loses_nothing(make_site: MakeSite) -> None:
    site = make_site("v3")
    # The server of media streams asks Twilio in its own loop; a thread of the stand-in holds it.
    site.vendors.dialling = "hold"
    body = b'{"to":"+12015550145"}'
    with socket.create_connection(("127.0.0.1", site.server.port)) as client:
        client.sendall(b"POST /call HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Intent-Id: gone\r\n"
                       b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        until(lambda: site.vendors.creates == 1, "nothing was dialled")
    site.vendors.release()
    until(lambda: intent_of(site, "gone")["state"] == "answered", lambda: str(intent_of(site, "gone")))


def test_a_request_that_was_cut_off_was_not_seen(make_site: MakeSite) -> None:
    site = make_site("v2")
    with socket.create_connection(("127.0.0.1", site.server.port)) as client:
        client.sendall(b"POST /call HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Intent-Id: cut\r\n"
                       b"Content-Length: 500\r\n\r\n{")
    assert intent_of(site, "cut")["state"] == "unseen"
    assert site.vendors.creates == 0


def test_who_sends_no_intent_is_not_touched(make_site: MakeSite) -> None:
    site = make_site("v2")
    for _ in range(2):
        answer = site.server.http.post("/call", json={"to": number(1)})
        assert answer.status_code == 200 and answer.headers["x-voicebus-tap"] == "1"
    assert site.vendors.creates == 2


def test_the_token_opens_what_dials_and_reads_but_not_what_vendors_call(make_site: MakeSite) -> None:
    site = make_site("v2", token=TOKEN)
    http, right = site.server.http, site.server.headers
    doors = [("POST", "/call"), ("DELETE", "/call/CA1"), ("GET", "/calls"), ("GET", "/history"), ("GET", "/history/x/transcript"),
             ("GET", "/voicebus/tap"), ("GET", "/voicebus/intents/x"), ("POST", "/voicebus/calls/x/hangup")]
    for method, path in doors:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic " + TOKEN}):
            answer = http.request(method, path, headers=headers, json={"to": number(1)})
            assert answer.status_code == 401, (method, path)
            assert answer.headers["x-voicebus-tap"] == "1"
    assert site.vendors.creates == 0
    assert http.get("/calls", headers=right).status_code == 200
    about = http.get("/voicebus/tap", headers=right).json()
    assert about["tap"] == 1 and "intents" in about["features"]
    assert dial(site, "wish-5").status_code == 200
    assert http.get("/health").status_code == 200
    assert http.post("/webhook", json={"type": "x", "data": {"call_id": "c", "sip_headers": []}}).status_code == 200


def test_without_a_token_only_this_machine_is_answered(make_site: MakeSite) -> None:
    site = make_site("v2")
    assert site.server.http.get("/voicebus/tap").status_code == 200
    through_a_proxy = {"X-Forwarded-For": "203.0.113.7"}
    assert site.server.http.get("/voicebus/tap", headers=through_a_proxy).status_code == 403
    assert dial(site, "wish-6", **through_a_proxy).status_code == 403
    assert site.vendors.creates == 0


def test_nothing_is_dialled_that_cannot_be_written_down(make_site: MakeSite) -> None:
    site = make_site("v2")
    with sqlite3.connect(site.server.directory / "tap" / "intents.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused = dial(site, "wish-7")
        assert (refused.status_code, refused.json()["state"]) == (503, "refused")
        assert "retry-after" in refused.headers and "x-voicebus-repeat" not in refused.headers
        other.execute("ROLLBACK")
    assert site.vendors.creates == 0
    assert intent_of(site, "wish-7")["state"] == "unseen"
    assert dial(site, "wish-7").status_code == 200
    site.expected_faults = {"journal": 1}
