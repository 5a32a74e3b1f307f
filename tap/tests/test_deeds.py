"""Hang up, give context, say a sentence: on the call that is meant, and once."""

from __future__ import annotations

from typing import Any

import httpx
from harness import Bus, number, until
from site_of import MakeSite, Site


def do(site: Site, call: str, verb: str, body: dict[str, Any], command: str | None = None) -> httpx.Response:
    headers = {**site.server.headers, **({"X-Command-Id": command} if command else {})}
    return site.server.http.post(f"/voicebus/calls/{call}/{verb}", json=body, headers=headers)


def begun(site: Site, bus: Bus, n: int) -> tuple[str, Any]:
    call, socket = site.begin(n)
    until(lambda: "state.answered" in bus.kinds(call), "the call was not answered")
    return call, socket


def test_a_call_that_is_talked_on_is_hung_up(site: Site, bus: Bus) -> None:
    call, _ = begun(site, bus, 50)
    answer = do(site, call, "hangup", {})
    assert (answer.status_code, answer.json()) == (200, {"status": "ended", "call_id": call})
    if site.kind == "v3":
        assert site.vendors.calls[call].status == "completed"
    else:
        assert ("hangup", call) in site.vendors.model
    bus.check_call(call, "hangup-bot", [])
    again = do(site, call, "hangup", {})
    assert (again.status_code, again.json()) == (410, {"state": "over"})


def test_an_outbound_call_is_hung_up_by_either_id(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2")
    call = site.dial(number(51))
    leg = site.sip.answered(call)
    site.sip.connected(leg)
    assert do(site, leg, "hangup", {}).json()["call_id"] == call
    assert site.vendors.calls[call].status == "completed"
    bus.check_call(call, "hangup-bot", [])


def test_a_stream_is_closed_where_there_is_no_account(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v3", TWILIO_ACCOUNT_SID="", TWILIO_AUTH_TOKEN="")
    call, _ = begun(site, bus, 52)
    assert do(site, call, "hangup", {}).status_code == 200
    bus.check_call(call, "hangup-bot", [])


def test_context_reaches_its_own_conversation_only_and_once(site: Site, bus: Bus) -> None:
    call, socket = begun(site, bus, 53)
    _, other = begun(site, bus, 54)
    for _ in range(3):
        answer = do(site, call, "context", {"context": {"order": 4711}}, command="c-1")
        assert (answer.status_code, answer.json()) == (200, {"status": "injected", "call_id": call})
    assert answer.headers["x-voicebus-repeat"] == "1"
    until(lambda: "conversation.item.create" in socket.heard_types(), "no context came")
    items = [f["item"] for f in socket.heard if f["type"] == "conversation.item.create"]
    assert len(items) == 1 and items[0]["role"] == "system" and "4711" in items[0]["content"][0]["text"]
    assert "conversation.item.create" not in other.heard_types()


def test_a_sentence_waits_for_the_answer_that_is_being_given(site: Site, bus: Bus) -> None:
    call, socket = begun(site, bus, 55)
    assert do(site, call, "say", {"text": "One moment."}, command="s-1").status_code == 200
    until(lambda: "response.create" in socket.heard_types(), "nothing was said")
    said = next(f for f in socket.heard if f["type"] == "response.create")
    assert "One moment." in said["response"]["instructions"]
    socket.push({"type": "response.created", "response": {"id": "r"}})
    until(lambda: any(e["type"].endswith("audio.sent") for e in bus.of(call)), "no answer was begun")
    assert do(site, call, "say", {"text": "Now."}, command="s-2").status_code == 200
    until(lambda: socket.heard_types().count("response.create") == 2, "the second was not said")
    assert "response.cancel" in socket.heard_types()  # the answer never ended


def test_what_cannot_be_done_says_why(make_site: MakeSite, bus: Bus) -> None:
    site = make_site("v2", options=["--no-sideband"], OPENAI_API_KEY="", LISTENS="0")
    call = site.sip.incoming(number(56))
    until(lambda: "state.answered" in bus.kinds(call), "the call was not answered")
    assert do(site, "rtc_nobody", "hangup", {}).status_code == 404
    assert do(site, call, "say", {"text": ""}).status_code == 400
    assert do(site, call, "say", {"text": "x" * 9000}).status_code == 413
    assert do(site, call, "context", {"context": "text"}).status_code == 400
    assert do(site, call, "hangup", {}).status_code == 501
