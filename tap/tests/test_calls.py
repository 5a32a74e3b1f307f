"""Calls of every kind, at servers that behave as the three versions do, seen on the public feed."""

from __future__ import annotations

import pytest
from harness import Bus, callback, number, until
from site_of import TALK, MakeSite, Site, frames
from vendors import turn


def test_an_inbound_call_is_told_from_beginning_to_end(site: Site, bus: Bus) -> None:
    if site.kind == "v3":
        call = site.streams.incoming(number(1))
        phone, socket = site.streams.talk(call)
        phone.audio()
        socket.push(*frames())
        until(lambda: len(bus.said(call)) == 4, "not all words came")
        phone.hang_up()
        bus.check_call(call, "hangup-user", TALK)
    else:
        call = site.sip.incoming(number(1))
        site.sip.connected(call).push(*frames(old=False))
        until(lambda: len(bus.said(call)) == 4, "not all words came")
        site.sip.ended(call)
        bus.check_call(call, "completed", TALK)
    first = bus.of(call)[0]["data"]["call"]
    assert (first["direction"], first["number"]) == ("inbound", number(1))
    assert bus.kinds(call)[:2] == ["state.initiated", "state.answered"]


def test_an_outbound_call_is_one_call_with_the_words_of_its_second_leg(site: Site, bus: Bus) -> None:
    before = bus.calls()
    call = site.dial(number(2))
    if site.kind == "v3":
        site.streams.answered(call)
        phone, socket = site.streams.talk(call)
        socket.push(*frames())
        until(lambda: len(bus.said(call)) == 4, "not all words came")
        phone.hang_up()
        bus.check_call(call, "hangup-user", TALK)
    else:
        leg = site.sip.answered(call)
        site.sip.connected(leg).push(*frames())
        until(lambda: len(bus.said(call)) == 4, "not all words came")
        site.vendors.calls[call].status = "completed"  # told by nobody: the tap must ask
        bus.check_call(call, "completed", TALK)
    assert bus.calls() - before == {call}
    assert bus.of(call)[0]["data"]["call"]["direction"] == "outbound"


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled"])
def test_a_call_that_nobody_takes_ends_with_its_reason(site: Site, bus: Bus, status: str) -> None:
    call = site.dial(number(3))
    if status == "canceled":
        site.server.http.delete(f"/call/{call}").raise_for_status()
    else:
        site.vendors.calls[call].status = status
    bus.check_call(call, status, [])


def test_a_status_callback_says_it_at_once(site: Site, bus: Bus) -> None:
    call = site.dial(number(4))
    path = "/voice/status" if site.kind == "v3" else "/webhook"
    for status in ("ringing", "busy"):
        callback(site.server, path, {"CallSid": call, "CallStatus": status})
    bus.check_call(call, "busy", [])
    assert "state.ringing" in bus.kinds(call)


def test_ten_calls_at_once_keep_their_words_apart(site: Site, bus: Bus) -> None:
    calls, sockets, phones = [], [], []
    for n in range(10):
        if site.kind == "v3":
            calls.append(site.streams.incoming(number(10 + n)))
            phone, socket = site.streams.talk(calls[-1])
            phones.append(phone)
        else:
            if n % 2:
                calls.append(site.dial(number(10 + n)))
                leg = site.sip.answered(calls[-1])
            else:
                calls.append(leg := site.sip.incoming(number(10 + n)))
            socket = site.sip.connected(leg)
        sockets.append(socket)
    spoken = [[turn(f"question {r} of {n}", f"answer {r} to {n}", late=r % 2 == 0) for r in range(4)] for n in range(10)]
    for r in range(4):
        for step in range(9):
            for n in range(10):
                sockets[n].push(spoken[n][r][step])
    for n, call in enumerate(calls):
        until(lambda call=call: len(bus.said(call)) == 8, lambda call=call: f"{call}: {bus.said(call)}")
        if site.kind == "v3":
            phones[n].hang_up()
        elif call.startswith("CA"):
            site.vendors.calls[call].status = "completed"
        else:
            site.sip.ended(call)
    for n, call in enumerate(calls):
        words = [(s, f"{w} {n}") for r in range(4) for s, w in (("user", f"question {r} of"), ("agent", f"answer {r} to"))]
        bus.check_call(call, "hangup-user" if site.kind == "v3" else "completed", words)


def test_a_refused_call_begins_and_ends(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2", REFUSES="1")
    call = site.sip.incoming(number(5))
    bus.check_call(call, "rejected", [])


def test_a_call_that_openai_does_not_let_be_accepted_has_failed(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2")
    site.vendors.accepting = 500
    call = site.sip.incoming(number(6))
    bus.check_call(call, "error", [])


def test_a_webhook_that_comes_twice_is_one_call(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2")
    event = {"type": "realtime.call.incoming", "data": {"call_id": "rtc_twice", "sip_headers": []}}
    for _ in range(2):
        site.server.http.post("/webhook", json=event).raise_for_status()
    site.sip.ended("rtc_twice")
    site.sip.ended("rtc_twice")
    bus.check_call("rtc_twice", "completed", [])


def test_tools_and_errors_are_named(site: Site, bus: Bus) -> None:
    if site.kind == "v3":
        call = site.streams.incoming(number(7))
        _, socket = site.streams.talk(call)
    else:
        call = site.sip.incoming(number(7))
        socket = site.sip.connected(call)
    socket.push({"type": "response.function_call_arguments.done", "call_id": "c1", "name": "read_file", "arguments": "{}"},
                {"type": "error", "error": {"type": "server_error", "code": "session_expired", "message": "secret words"}})

    def notes() -> list[str]:
        return [e["data"]["transcript"]["text"] for e in bus.of(call) if e["type"].endswith("transcript.system")]

    until(lambda: len(notes()) == 2, lambda: f"notes: {notes()}")
    assert notes() == ["tool called: read_file", "OpenAI reported an error: session_expired"]


def test_the_callers_words_are_asked_for_where_that_is_wanted(make_site: MakeSite) -> None:
    for kind in ("v1", "v2"):
        site = make_site(kind, options=["--transcribe", "model-x"])
        site.vendors.session = {}
        call, socket = site.begin(8)
        until(lambda: "session.update" in socket.heard_types(), "nobody asked for the words")
        assert socket.heard[0]["session"]["audio"]["input"]["transcription"] == {"model": "model-x"}
        site.sip.ended(call)
        site.server.stop()
        assert socket.heard_types().count("session.update") == 1
