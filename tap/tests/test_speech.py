"""Words in spoken order, each once, from both generations of OpenAI's events."""

from __future__ import annotations

from typing import Any

from vendors import turn
from voicebus_tap.speech import HOLD_SECONDS, Closed, Conversation, Failed, Said, ToolCalled


def words(conversation: Conversation, frames: list[dict[str, Any]], at: float = 0.0) -> list[tuple[str, str]]:
    return [(one.speaker, one.text) for f in frames for one in conversation.heard(f, at) if isinstance(one, Said)]


def transcribing() -> Conversation:
    conversation = Conversation()
    conversation.sent({"type": "session.update", "session": {"input_audio_transcription": {"model": "whisper-1"}}})
    return conversation


def test_an_answer_waits_for_the_question_it_answers() -> None:
    for old in (True, False):
        assert words(transcribing(), turn("why", "because", old=old, late=True)) == [("user", "why"), ("agent", "because")]


def test_an_answer_does_not_wait_where_nobody_transcribes() -> None:
    frames = [f for f in turn("why", "because") if "transcription" not in f["type"]]
    assert words(Conversation(), frames) == [("agent", "because")]
    conversation = transcribing()
    list(conversation.heard({"type": "session.updated", "session": {"audio": {"input": {"transcription": None}}}}, 0))
    assert words(conversation, frames) == [("agent", "because")]


def test_an_answer_does_not_wait_for_ever() -> None:
    conversation = transcribing()
    frames = [f for f in turn("why", "because") if "transcription" not in f["type"]]
    assert words(conversation, frames) == []
    assert list(conversation.release(HOLD_SECONDS - 0.1)) == []
    assert [one.text for one in conversation.release(HOLD_SECONDS)] == ["because"]


def test_a_question_that_cannot_be_recognised_holds_nothing_up() -> None:
    frames = turn("why", "because")
    frames[7]["type"] = "conversation.item.input_audio_transcription.failed"
    assert words(transcribing(), frames) == [("agent", "because")]


def test_words_that_come_too_late_still_know_when_they_were_spoken() -> None:
    conversation = transcribing()
    frames = turn("why", "because")
    late = frames.pop(7)
    for frame in frames:
        list(conversation.heard(frame, 1.0))
    assert [one.text for one in conversation.release(100.0)] == ["because"]
    said = [one for one in conversation.heard(late, 101.0) if isinstance(one, Said)]
    assert [(one.text, one.spoken_at) for one in said] == [("why", 1.0)]


def test_nothing_is_told_twice() -> None:
    conversation = transcribing()
    frames = turn("why", "because")
    assert len(words(conversation, [frame for frame in frames for _ in range(2)])) == 2
    assert words(conversation, frames) == []


def test_an_answer_that_only_the_end_of_the_response_tells_is_told() -> None:
    frames = [f for f in turn("why", "because", late=False) if "audio_transcript.done" not in f["type"]]
    assert words(transcribing(), frames) == [("user", "why"), ("agent", "because")]


def test_frames_of_any_shape_are_borne() -> None:
    conversation = Conversation()
    for kind in ("session.created", "session.update", "response.done", "response.output_item.added", "error",
                 "response.function_call_arguments.done", "input_audio_buffer.committed", "session.closed"):
        for value in (None, 1, "x", [], {}, {"output": [1, {"type": "message", "content": [2]}]}):
            frame = {"type": kind, "session": value, "response": value, "item": value, "error": value, "item_id": value}
            conversation.sent(frame)
            list(conversation.heard(frame, 0.0))


def test_tools_errors_and_the_end_are_named() -> None:
    conversation = Conversation()
    list(conversation.heard({"type": "response.output_item.added",
                             "item": {"type": "function_call", "id": "i1", "name": "look_up"}}, 0))
    heard = [
        *conversation.heard({"type": "response.function_call_arguments.done", "item_id": "i1"}, 0),
        *conversation.heard({"type": "error", "error": {"type": "server_error", "code": None}}, 0),
        *conversation.heard({"type": "session.closed"}, 0),
    ]
    assert heard == [ToolCalled("look_up"), Failed("server_error"), Closed()]
