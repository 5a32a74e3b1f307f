"""Which outbound call a second leg belongs to, and that a doubt decides nothing."""

from __future__ import annotations

import pytest
from voicebus_tap.call import Call
from voicebus_tap.matching import WINDOW_SECONDS, digits, leg_of

OURS, ALICE, BOB = "+15005550006", "+12015550101", "+12015550102"


def call(sid: str, to: str, answered: bool = False) -> Call:
    return Call(id=sid, since=0.0, direction="outbound", party=to, own=OURS, answered=answered)


def found(caller: str, calls: list[Call], now: float = 1.0, **headers: str) -> str | None:
    lines = [{"name": "From", "value": f'"7" <sip:{caller}@host>;tag=99'}, *({"name": k, "value": v} for k, v in headers.items())]
    leg = leg_of(lines, calls, now)
    return leg.id if leg else None


def test_the_leg_comes_from_whom_we_called() -> None:
    calls = [call("CA1", ALICE), call("CA2", BOB)]
    assert found(BOB, calls) == "CA2"
    assert found("+12015550199", calls) is None


def test_the_leg_comes_from_our_own_number() -> None:
    assert found(OURS, [call("CA1", ALICE)]) == "CA1"
    assert found(OURS, [call("CA1", ALICE), call("CA2", BOB, answered=True)]) == "CA2"


def test_two_that_could_be_meant_decide_nothing() -> None:
    assert found(ALICE, [call("CA1", ALICE), call("CA2", ALICE)]) is None
    assert found(OURS, [call("CA1", ALICE, answered=True), call("CA2", BOB, answered=True)]) is None


def test_a_header_that_names_the_call_decides() -> None:
    sid = "CA" + "0a" * 16
    calls = [call(sid, ALICE, answered=True), call("CA2", BOB, answered=True)]
    assert found(OURS, calls, **{"X-Twilio-CallSid": sid}) == sid


def test_a_call_has_one_leg_and_not_for_ever() -> None:
    taken = call("CA1", ALICE)
    taken.leg = "rtc_1"
    assert found(ALICE, [taken]) is None
    assert found(ALICE, [call("CA1", ALICE)], now=WINDOW_SECONDS + 1) is None


@pytest.mark.parametrize(("text", "expected"), [
    (ALICE, "12015550101"), ('"Alice 42" <sip:+1-201-555-0101@h:5060;user=phone>;tag=x9', "12015550101"),
    ("<tel:+12015550101>", "12015550101"), ("sip:%2B12015550101@h", "12015550101"),
    ("sip:anonymous@anonymous.invalid", ""), ("", ""), (None, ""), ("unknown", ""),
])
def test_numbers_are_read_from_addresses(text: str | None, expected: str) -> None:
    assert digits(text) == expected
