"""What observations mean for calls: the corners that no stand-in drives by itself."""

from __future__ import annotations

import json

from vendors import turn
from voicebus_tap import observation as seen
from voicebus_tap.book import AGE_MAX, MEMORY_SECONDS, SIDEBAND_GRACE, Book
from voicebus_tap.call import Call, Paired, Told

INTENT = "wish-1"


def told(book: Book, *observations: seen.Observation) -> list[str]:
    return [
        one.type + (f" {one.data.get('reason')}" if "reason" in one.data else "")
        for observation in observations for one in book.apply(observation) if isinstance(one, Told)
    ]


def dialled(sid: str = "CA1", at: float = 0.0) -> seen.CarrierDialled:
    form = {"To": "+12015550101", "From": "+15005550006"}
    return seen.CarrierDialled(at, form, 201, json.dumps({"sid": sid}).encode(), INTENT)


def incoming(name: str, at: float = 0.0) -> seen.Exchange:
    body = {"type": "realtime.call.incoming", "data": {"call_id": name, "sip_headers": [{"name": "From", "value": "x"}]}}
    return seen.Exchange(at, "POST", "/webhook", "", "application/json", json.dumps(body).encode(), 200, b"{}")


def test_a_dial_is_paired_with_its_intent_whatever_the_server_then_answers() -> None:
    outcome = list(Book().apply(dialled()))
    assert [one for one in outcome if isinstance(one, Paired)] == [Paired("wish-1", "CA1")]
    start = next(one for one in outcome if isinstance(one, Told))
    assert start.data["intent_id"] == "wish-1"


def test_an_end_is_told_once_and_by_its_first_reason() -> None:
    book = Book()
    ends = [seen.CarrierState(1.0, "CA1", state) for state in ("busy", "completed", "canceled")]
    assert told(book, dialled(), *ends) == ["call.started", "call.ended busy"]


def test_a_connection_that_comes_back_is_no_end_and_one_that_does_not_is() -> None:
    book = Book()
    opened = [incoming("rtc_1"), seen.SocketOpened(1.0, 1, "rtc_1", True), seen.SocketClosed(2.0, 1)]
    assert told(book, *opened) == ["call.started", "call.answered"]
    told(book, seen.SocketOpened(3.0, 2, "rtc_1", True))
    assert list(book.tick(2.0 + SIDEBAND_GRACE + 1)) == []
    told(book, seen.SocketClosed(50.0, 2))
    end = [one for one in book.tick(50.0 + SIDEBAND_GRACE) if isinstance(one, Told)]
    assert [one.data["reason"] for one in end] == ["completed"]


def test_a_call_that_openai_no_longer_knows_is_over() -> None:
    book = Book()
    frame = {"type": "response.output_audio_transcript.done", "item_id": "i", "transcript": "Bye."}
    said = told(book, incoming("rtc_1"), seen.SocketOpened(1.0, 1, "rtc_1", True),
                seen.SocketFrame(2.0, 1, json.dumps(frame), sent=False), seen.SocketClosed(3.0, 1),
                seen.SocketRefused(4.0, "rtc_1", 404))
    assert said == ["call.started", "call.answered", "transcript.agent", "call.ended completed"]


def test_an_end_in_the_middle_of_an_exchange_does_not_turn_it_round() -> None:
    book = Book()
    told(book, incoming("rtc_1"), seen.SocketOpened(1.0, 1, "rtc_1", True))
    session = {"type": "session.updated", "session": {"input_audio_transcription": {"model": "m"}}}
    frames = [seen.SocketFrame(2.0, 1, json.dumps(frame), sent=False) for frame in [session, *turn("why", "because")]]
    over = json.dumps({"type": "realtime.call.ended", "data": {"call_id": "rtc_1"}}).encode()
    end = seen.Exchange(2.0, "POST", "/webhook", "", "application/json", over, 200, b"{}")
    said = told(book, *frames[:8], end, *frames[8:])
    assert [kind for kind in said if not kind.startswith("audio")] == [
        "call.ended completed", "transcript.user", "transcript.agent"]


def test_two_connections_of_one_call_tell_its_words_once() -> None:
    book = Book()
    frame = json.dumps({"type": "response.output_audio_transcript.done", "item_id": "i", "transcript": "Hello."})
    told(book, incoming("rtc_1"), seen.SocketOpened(1.0, 1, "rtc_1", True), seen.SocketOpened(1.0, 2, "rtc_1", True))
    both = [seen.SocketFrame(2.0, number, frame, sent=False) for number in (2, 1)]
    assert told(book, *both) == ["transcript.agent"]


def test_the_servers_own_emitter_adds_only_what_nobody_else_tells() -> None:
    book = Book()

    def emitted(kind: str, **data: str) -> seen.Emitted:
        event = {"callId": "rtc_1", "eventType": kind, "phoneNumber": "+12015550101", "direction": "inbound", "data": data}
        return seen.Emitted(1.0, json.dumps(event).encode())

    assert told(book, incoming("rtc_1"), emitted("call_started")) == ["call.started"]
    assert told(book, emitted("transcript_update", speaker="user", content="Hi")) == ["transcript.updated"]
    assert told(book, emitted("call_ended"), emitted("call_ended")) == ["call.ended completed"]


def test_nothing_is_remembered_for_ever() -> None:
    book = Book()
    for n in range(50):
        told(book, dialled(f"CA{n}", at=float(n)), seen.CarrierState(float(n), f"CA{n}", "completed"))
    told(book, dialled("CAalive", at=0.0))
    list(book.tick(MEMORY_SECONDS + 100.0))
    assert set(book.calls) == {"CAalive"}
    end = [one for one in book.tick(AGE_MAX + 1) if isinstance(one, Told)]
    assert [one.data["reason"] for one in end] == ["timeout"]


def test_a_snapshot_of_another_version_is_read() -> None:
    snapshot = json.loads(Call("CA1", 1.0, direction="outbound").snapshot()) | {"of_tomorrow": 1}
    assert Call.of_snapshot(json.dumps(snapshot)) == Call("CA1", 1.0, direction="outbound")


def test_ids_that_are_none_are_not_taken() -> None:
    book = Book()
    for name in ("", "a.b", "x" * 129, "a b", "*"):
        assert told(book, incoming(name), seen.StreamStarted(0.0, 1, name), dialled(name)) == []
