"""The intents and commands on disk: what reached the server, and what it answered.

One row for each id, for ever as far as anybody may ask (``RETENTION``). Each change is flushed before
the call returns (SQLite, ``synchronous=FULL``). Rows that were open when the process died become
``unknown`` at the next start.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

#: The contract asks for 72 hours; a week leaves room for whoever looks later.
RETENTION = 7 * 24 * 3600.0
#: Longest answer kept; the contract's bound.
BODY_MAX = 64 * 1024

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS asks (
    kind TEXT NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, state TEXT NOT NULL,
    received_at REAL NOT NULL, answered_at REAL, status INTEGER, content_type TEXT, body TEXT,
    call_id TEXT, number TEXT, repeats INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (kind, id)
);
CREATE INDEX IF NOT EXISTS asks_received ON asks (received_at);
"""


class Kind(Enum):
    """What an id names."""

    DIAL = "dial"
    COMMAND = "command"


class State(Enum):
    """How far an ask has come."""

    OPEN = "open"
    ANSWERED = "answered"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Ask:
    """A row: one intent or command."""

    id: str
    digest: str
    state: State
    received_at: float
    answered_at: float | None
    status: int | None
    content_type: str | None
    body: str | None
    call_id: str | None
    repeats: int


@dataclass(frozen=True)
class Late:
    """Not written, because the deadline has passed."""


class Journal:
    """The journal. Any thread may call; each call holds the lock for one transaction."""

    def __init__(self, path: Path, now: float) -> None:
        """Opens or begins it. Raises ``sqlite3.Error`` or ``OSError`` where that cannot be done."""
        self._lock = threading.Lock()
        self._db = connect(path)
        with self._lock, self._db:
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('began_at', ?)", (repr(now),))
            abandoned = self._db.execute(
                "SELECT id, number, received_at FROM asks WHERE state = 'open' AND number IS NOT NULL"
            ).fetchall()
            self._db.execute("UPDATE asks SET state = 'unknown' WHERE state = 'open'")
            row = self._db.execute("SELECT value FROM meta WHERE key = 'began_at'").fetchone()
            #: Dials of the process before that were without an answer when it died: intent, number, when.
            self.abandoned: list[tuple[str, str, float]] = abandoned
        self._began_at = float(row[0])

    def complete_since(self, now: float) -> float:
        """No intent seen since then has been forgotten."""
        return max(self._began_at, now - RETENTION)

    def open(
        self, kind: Kind, name: str, digest: str, number: str | None, deadline: float | None, now: float
    ) -> Ask | Late | None:
        """Writes a first ask down and gives ``None``; gives the row of a repeat, counted."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            known = self._find(kind, name)
            if known is not None:
                self._db.execute(
                    "UPDATE asks SET repeats = repeats + 1 WHERE kind = ? AND id = ?", (kind.value, name)
                )
                return known
            if deadline is not None and deadline <= now:
                return Late()
            self._db.execute(
                "INSERT INTO asks (kind, id, digest, number, state, received_at) VALUES (?, ?, ?, ?, 'open', ?)",
                (kind.value, name, digest, number, now),
            )
        return None

    def close(
        self, kind: Kind, name: str, status: int, content_type: str, body: str, call_id: str | None, now: float
    ) -> None:
        """Writes the answer down."""
        with self._lock, self._db:
            self._db.execute(
                "UPDATE asks SET state = 'answered', answered_at = ?, status = ?, content_type = ?, body = ?,"
                " call_id = coalesce(?, call_id) WHERE kind = ? AND id = ?",
                (now, status, content_type, body[:BODY_MAX], call_id, kind.value, name),
            )

    def give_up(self, kind: Kind, name: str) -> None:
        """No answer will come."""
        with self._lock, self._db:
            self._db.execute(
                "UPDATE asks SET state = 'unknown' WHERE kind = ? AND id = ? AND state = 'open'",
                (kind.value, name),
            )

    def pair(self, intent: str, call_id: str) -> None:
        """Writes down which call an intent made."""
        with self._lock, self._db:
            self._db.execute(
                "UPDATE asks SET call_id = coalesce(call_id, ?) WHERE kind = 'dial' AND id = ?", (call_id, intent)
            )

    def find(self, kind: Kind, name: str) -> Ask | None:
        """The row of an id."""
        with self._lock:
            return self._find(kind, name)

    def forget(self, now: float) -> None:
        """Deletes what nobody may ask for any more."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM asks WHERE received_at < ?", (now - RETENTION,))

    def shut(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def _find(self, kind: Kind, name: str) -> Ask | None:
        row = self._db.execute(
            "SELECT id, digest, state, received_at, answered_at, status, content_type, body, call_id, repeats"
            " FROM asks WHERE kind = ? AND id = ?",
            (kind.value, name),
        ).fetchone()
        return None if row is None else Ask(row[0], row[1], State(row[2]), *row[3:])


def connect(path: Path) -> sqlite3.Connection:
    """A database whose commits are on the disk when they return, for the owner's eyes only."""
    path.touch(mode=0o600)
    database = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database
