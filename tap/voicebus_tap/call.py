"""One call as the tap knows it, and what is told of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from typing import Any

#: What an id from outside must be; it becomes part of a NATS subject.
CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True)
class Told:
    """One event to tell."""

    call: str
    type: str
    at: float
    data: dict[str, Any]


@dataclass(frozen=True)
class Paired:
    """The call that an intent made."""

    intent: str
    call: str


@dataclass
class Call:
    """One call; survives a restart as JSON."""

    id: str
    since: float
    direction: str | None = None
    #: The other end, as its signalling names it.
    party: str | None = None
    #: Our own number, of an outbound call.
    own: str | None = None
    #: Its other id.
    leg: str | None = None
    intent: str | None = None
    ringing: bool = False
    answered: bool = False
    ended: bool = False
    #: Who asked for the end: ``bot`` once the tap or the server hung up.
    hangup: str | None = None
    #: Whether its audio goes through the server.
    streamed: bool = False
    #: Whether a connection to OpenAI told its words.
    spoken: bool = False
    #: When and why it is over unless a sign of life comes.
    ends_at: float | None = None
    ends_as: tuple[str, str | None] = ("completed", None)
    ended_at: float = 0.0

    @property
    def at_carrier(self) -> bool:
        """Whether Twilio knows it under its id."""
        return self.id.startswith("CA")

    def snapshot(self) -> str:
        """For the outbox."""
        return json.dumps(asdict(self))

    @classmethod
    def of_snapshot(cls, text: str) -> Call:
        """The call of a snapshot; what only another version of the tap knows of it is left out."""
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in json.loads(text).items() if name in known}
        if "ends_as" in kept:
            kept["ends_as"] = tuple(kept["ends_as"])
        return cls(**kept)


def stamp(at: float) -> str:
    """A time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
