"""What is said on one connection to OpenAI Realtime, in the order in which it was spoken.

The words of the caller arrive late: recognition runs beside the conversation, so the assistant's
answer is often final before the sentence it answers. Every item of the conversation therefore takes
its place when it begins, and what is final waits for what stands before it, for ``HOLD_SECONDS`` at
most. Where the session does not transcribe the caller, nothing is waited for.

Event names of both generations of the API are read. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union

#: How long a final text waits for one that began before it. Recognition takes one to three seconds.
HOLD_SECONDS = 6.0
#: Items remembered, so that none is told twice; a long call has some hundreds.
ITEMS_MAX = 512
#: Longest name of a tool or code of an error that is told.
NAME_LENGTH_MAX = 64

_AGENT_DONE = {
    "response.audio_transcript.done": "transcript",
    "response.output_audio_transcript.done": "transcript",
    "response.text.done": "text",
    "response.output_text.done": "text",
}
_USER_DONE = "conversation.item.input_audio_transcription.completed"
_USER_FAILED = "conversation.item.input_audio_transcription.failed"


@dataclass(frozen=True)
class Said:
    """A final utterance."""

    speaker: str  # "user" or "agent"
    text: str
    #: When it began.
    spoken_at: float


@dataclass(frozen=True)
class Turn:
    """One side begins to speak: ``user`` or ``agent``."""

    speaker: str


@dataclass(frozen=True)
class ToolCalled:
    """The model called a tool."""

    name: str


@dataclass(frozen=True)
class Failed:
    """OpenAI reported an error."""

    code: str


@dataclass(frozen=True)
class Closed:
    """OpenAI ended the session."""


Heard = Union[Said, Turn, ToolCalled, Failed, Closed]


@dataclass
class _Slot:
    speaker: str
    at: float
    text: str = ""
    final_at: float | None = None


class Conversation:
    """One connection."""

    def __init__(self) -> None:
        self.transcribes = False
        #: Whether the assistant is making an answer just now.
        self.responding = False
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._told: OrderedDict[str, None] = OrderedDict()
        self._began: dict[str, float] = {}
        self._tools: dict[str, str] = {}
        self._nameless = 0

    def sent(self, frame: Mapping[str, Any]) -> None:
        """Takes a frame of the server's: whether it asks for the caller's words."""
        if frame.get("type") == "session.update":
            self._read_session(frame.get("session"))

    def heard(self, frame: Mapping[str, Any], at: float) -> Iterator[Heard]:
        """Takes a frame of OpenAI's and gives what may be told now."""
        kind = frame.get("type")
        if kind in ("session.created", "session.updated"):
            self._read_session(frame.get("session"))
        elif kind == "input_audio_buffer.speech_started":
            self._remember_beginning(_text(frame, "item_id"), at)
            yield Turn("user")
        elif kind == "input_audio_buffer.committed":
            self._begin(_text(frame, "item_id"), "user", at)
        elif kind == "response.created":
            self.responding = True
            yield Turn("agent")
        elif kind == "response.output_item.added":
            self._item_added(frame.get("item"), at)
        elif kind in _AGENT_DONE:
            self._final(self._key(frame), "agent", _text(frame, _AGENT_DONE[kind]), at)
        elif kind == _USER_DONE:
            self.transcribes = True
            self._final(self._key(frame), "user", _text(frame, "transcript"), at)
        elif kind == _USER_FAILED:
            self._final(self._key(frame), "user", "", at)
        elif kind == "response.function_call_arguments.done":
            name = _text(frame, "name") or self._tools.get(_text(frame, "item_id"), "")
            yield ToolCalled((name or "unnamed")[:NAME_LENGTH_MAX])
        elif kind == "response.done":
            self.responding = False
            self._response_done(frame.get("response"), at)
        elif kind == "error":
            error = frame.get("error")
            code = error.get("code") or error.get("type") if isinstance(error, Mapping) else None
            yield Failed(str(code or "unknown")[:NAME_LENGTH_MAX])
        elif kind == "session.closed":
            yield from self.release(at, everything=True)
            yield Closed()
        yield from self.release(at)

    def release(self, now: float, everything: bool = False) -> Iterator[Said]:
        """What may be told now; with ``everything`` also what still waits for something."""
        while self._slots:
            key, slot = next(iter(self._slots.items()))
            if slot.final_at is None and not everything and self._must_wait(now):
                return
            self._slots.popitem(last=False)
            if slot.final_at is None:
                self._remember_beginning(key, slot.at)
                continue
            self._told[key] = None
            if len(self._told) > ITEMS_MAX:
                self._told.popitem(last=False)
            if slot.text.strip():
                yield Said(slot.speaker, slot.text, slot.at)

    def _must_wait(self, now: float) -> bool:
        """Whether what is final must wait for the first, which is not."""
        final = [slot.final_at for slot in self._slots.values() if slot.final_at is not None]
        return not final or (self.transcribes and now - min(final) < HOLD_SECONDS)

    def _read_session(self, session: object) -> None:
        """Whether the caller's words are transcribed, where the session says so."""
        if not isinstance(session, Mapping):
            return
        if "input_audio_transcription" in session:
            self.transcribes = session["input_audio_transcription"] is not None
        audio = session.get("audio")
        sound = audio.get("input") if isinstance(audio, Mapping) else None
        if isinstance(sound, Mapping) and "transcription" in sound:
            self.transcribes = sound["transcription"] is not None

    def _key(self, frame: Mapping[str, Any]) -> str:
        """The item, or a name of its own for one that has none."""
        item = _text(frame, "item_id")
        if not item:
            self._nameless += 1
            return f"nameless {self._nameless}"
        part = frame.get("content_index")
        return item if not part else f"{item} {part}"

    def _remember_beginning(self, item: str, at: float) -> None:
        if item and len(self._began) < ITEMS_MAX:
            self._began[item] = at

    def _begin(self, item: str, speaker: str, at: float) -> None:
        if item and item not in self._slots and item not in self._told:
            self._slots[item] = _Slot(speaker, self._began.pop(item, at))
            if len(self._slots) > ITEMS_MAX:
                self._slots.popitem(last=False)

    def _item_added(self, item: object, at: float) -> None:
        if not isinstance(item, Mapping):
            return
        if item.get("type") == "message":
            self._begin(_text(item, "id"), "agent", at)
        elif item.get("type") == "function_call":
            self._tools = {_text(item, "id"): _text(item, "name")}

    def _final(self, key: str, speaker: str, text: str, at: float) -> None:
        if key in self._told:
            return
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = _Slot(speaker, self._began.pop(key, at))
        if slot.final_at is None:
            slot.final_at, slot.text = at, text

    def _response_done(self, response: object, at: float) -> None:
        """Takes what no event of its own told, and closes what will never be final."""
        items = response.get("output") if isinstance(response, Mapping) else None
        for item in items if isinstance(items, list) else []:
            if not isinstance(item, Mapping) or item.get("type") != "message":
                continue
            name = _text(item, "id")
            contents = item.get("content")
            for index, content in enumerate(contents if isinstance(contents, list) else []):
                if name and isinstance(content, Mapping):
                    text = _text(content, "transcript") or _text(content, "text")
                    self._final(f"{name} {index}" if index else name, "agent", text, at)
            slot = self._slots.get(name)
            if slot is not None and slot.final_at is None:
                slot.final_at = at


def _text(frame: Mapping[str, Any], key: str) -> str:
    value = frame.get(key)
    return value if isinstance(value, str) else ""
