"""voicebus and the tap together: what is asked of the bus is done at the server, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness import TOKEN, Bus, number, until
from site_of import MakeSite, Site
from vendors import free_port

PORT = free_port()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """A voicebus that has the tap's token."""
    directory = tmp_path_factory.mktemp("guarded")
    bus = Bus(directory, f"http://127.0.0.1:{PORT}", environment={"VOICEBUS_TAP_TOKEN": TOKEN})
    yield bus
    bus.stop()


@pytest.fixture(params=["v1", "v2", "v3"])
def site(request: pytest.FixtureRequest, make_site: MakeSite, guarded: Bus) -> Site:
    """A site of each kind in turn, whose tap wants to see the token."""
    return make_site(request.param, guarded.http, port=PORT, token=TOKEN)


def wish(n: int) -> dict[str, Any]:
    return {"to": number(n), "session": "asked-for"}


def command(bus: Bus, name: str, status: str) -> dict[str, Any]:
    """Waits until a command has come so far."""
    until(lambda: status in bus.told(name), lambda: f"{name}: {bus.told(name)}")
    return dict(next(e["data"]["command"] for e in bus.of(name) if e["data"]["command"]["status"] == status))


def test_a_hundred_times_the_same_wish_is_one_call(site: Site, guarded: Bus) -> None:
    intent = f"hundred-{site.kind}"
    guarded.store(f"voice.cmd.dial.{intent}", wish(110), times=100)
    call = command(guarded, intent, "confirmed")["call"]
    code, _ = guarded.tool("call", number(111), "--idempotency-key", intent, "--session", "asked-for")
    assert code == 0
    assert guarded.tool("call", number(111), "--idempotency-key", intent, "--session", "asked-for")[0] == 0
    assert site.vendors.creates == 2 and call in site.vendors.calls
    site.vendors.calls[call].status = "busy"
    guarded.check_call(call, "busy", [])
    assert {event["sessionkey"] for event in guarded.of(call)} == {"agent:main:asked-for"}
    assert guarded.told(intent) == ["accepted", "confirmed"]


def test_a_server_that_dies_while_it_dials_leaves_the_dial_unknown_until_it_is_found(site: Site, guarded: Bus) -> None:
    intent = f"dies-{site.kind}"
    site.vendors.dialling = "hold"
    guarded.store(f"voice.cmd.dial.{intent}", wish(120))
    until(lambda: site.vendors.creates == 1, "nothing was dialled")
    site.server.process.kill()
    site.vendors.release()
    command(guarded, intent, "unknown")
    call = until(lambda: next(iter(site.vendors.calls), None), "Twilio has no call")
    site.server.start()
    assert command(guarded, intent, "confirmed")["call"] == call
    site.vendors.calls[call].status = "no-answer"
    guarded.check_call(call, "no-answer", [])
    assert {event["sessionkey"] for event in guarded.of(call)} == {"agent:main:asked-for"}
    assert site.vendors.creates == 1


def test_an_answer_that_the_server_lost_is_found(site: Site, guarded: Bus) -> None:
    intent = f"lost-{site.kind}"
    site.vendors.dialling = "lose"
    guarded.store(f"voice.cmd.dial.{intent}", wish(130))
    call = command(guarded, intent, "confirmed")["call"]
    assert list(site.vendors.calls) == [call] and site.vendors.creates == 1


def test_what_is_asked_of_the_bus_reaches_the_conversation_once(site: Site, guarded: Bus) -> None:
    call, socket = site.begin(140)
    until(lambda: "state.answered" in guarded.kinds(call), "the call was not answered")
    code, said = guarded.tool("say", call, "One moment, please.")
    assert (code, said) == (0, f"the assistant says it in call {call}\n")
    again = {"id": f"again-{site.kind}", "text": "Only once."}
    guarded.store(f"voice.cmd.say.{call}", again, times=5)
    assert command(guarded, again["id"], "confirmed")["call"] == call

    def spoken() -> list[str]:
        return [f["response"]["instructions"] for f in socket.heard if f["type"] == "response.create"
                and "instructions" in f.get("response", {})]

    code, _ = guarded.tool("context", call, '{"order": 4711}')
    assert code == 0
    injected = until(lambda: [e for e in guarded.of(call) if e["type"].endswith("context.injected")], "no context")
    assert (injected[0]["data"]["context"], injected[0]["data"]["live"]) == ({"order": 4711}, True)
    items = [f["item"] for f in socket.heard if f["type"] == "conversation.item.create"]
    assert sum("4711" in str(item) for item in items) == 1
    ours = [text for text in spoken() if "nothing else" in text]
    assert [("One moment" in text, "Only once" in text) for text in ours] == [(True, False), (False, True)]

    assert guarded.tool("hangup", call)[0] == 0
    guarded.check_call(call, "hangup-bot", [])
    code, said = guarded.tool("say", call, "Too late.")
    assert code == 1 and "call-ended" in said, said
