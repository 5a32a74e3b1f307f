"""Events on disk until the ingress has them.

An event gets its number in its call, its id and its bytes when it is written, in one flushed
transaction with the state of the calls: sent again, it is the same event to the byte. The events of
a call are numbered without a gap over all restarts. When the buffer is full, what is new is dropped and
counted; its number is used up, so that whoever reads the call sees that something is missing.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .call import Call, Told, stamp
from .containment import log
from .journal import connect

#: Most events of a batch, and of one call in it. The router knows a repeat among the last 32 inputs of
#: a call again for ever; a batch that broke off half-way may come again after the bus's own memory.
BATCH_LENGTH_MAX = 100
BATCH_CALL_MAX = 24
#: Longest batch, in bytes; the ingress takes 900 kB.
BATCH_BYTES_MAX = 700 * 1024
#: Refused events kept for people to look at.
REFUSED_MAX = 1000
#: How long an ended call is kept, so that late words go on counting where it stopped.
KEEP_SECONDS = 7 * 24 * 3600.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    call TEXT PRIMARY KEY, sequence INTEGER NOT NULL, snapshot TEXT NOT NULL, open INTEGER NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS events (n INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refused (n INTEGER PRIMARY KEY, code TEXT NOT NULL, body TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Waiting:
    """An event that waits: its place and its JSON."""

    n: int
    body: str


class Outbox:
    """The buffer. The recorder writes, the courier reads and removes."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        """Opens or begins it. Raises ``sqlite3.Error`` or ``OSError`` where that cannot be done."""
        self.dropped = 0
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._db = connect(path)
        with self._lock:
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('instance', ?)", (uuid.uuid4().hex,))
            row = self._db.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()
            count, size = self._db.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM events").fetchone()
        #: Names the sender for ever; a buffer that is begun anew is another sender.
        self.source = f"/voicebus-tap/{row[0]}"
        self._count, self._bytes = int(count), int(size)

    def open_calls(self) -> list[str]:
        """The snapshots of calls that had not ended."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT snapshot FROM calls WHERE open = 1 ORDER BY at")]

    def knows(self, call: str) -> bool:
        """Whether anything was ever told of a call."""
        with self._lock:
            return self._db.execute("SELECT 1 FROM calls WHERE call = ?", (call,)).fetchone() is not None

    def store(self, told: Iterable[Told], calls: Iterable[Call], now: float) -> None:
        """Writes events and calls, all or none. Raises ``sqlite3.Error``; then nothing is written."""
        count, size, dropped = 0, 0, 0
        with self._lock:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for one in told:
                    body = self._event(one)
                    if self._bytes + size + len(body) > self._bytes_max:
                        dropped += 1
                        continue
                    self._db.execute("INSERT INTO events (call, body) VALUES (?, ?)", (one.call, body))
                    count, size = count + 1, size + len(body)
                for call in calls:
                    self._db.execute(
                        "INSERT INTO calls VALUES (?, 0, ?, ?, ?) ON CONFLICT (call) DO UPDATE"
                        " SET snapshot = excluded.snapshot, open = excluded.open, at = excluded.at",
                        (call.id, call.snapshot(), int(not call.ended), now),
                    )
            self._count, self._bytes = self._count + count, self._bytes + size
        if dropped:
            if self.dropped == 0:
                log.error("the buffer on disk is full; new events are dropped until the ingress is back")
            self.dropped += dropped

    def peek(self) -> list[Waiting]:
        """The next batch, in order."""
        batch: list[Waiting] = []
        size, per_call = 0, dict[str, int]()
        with self._lock:
            rows = self._db.execute("SELECT n, call, body FROM events ORDER BY n LIMIT ?", (BATCH_LENGTH_MAX,))
            for n, call, body in rows:
                size += len(body.encode())
                per_call[call] = per_call.get(call, 0) + 1
                if batch and (size > BATCH_BYTES_MAX or per_call[call] > BATCH_CALL_MAX):
                    break
                batch.append(Waiting(n, body))
            rows.close()
        return batch

    def remove(self, batch: list[Waiting], refused_as: str | None = None) -> None:
        """The ingress has them, or will never take them (``refused_as`` its word for why)."""
        with self._lock:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                for one in batch:
                    if refused_as is not None:
                        row = (one.n, refused_as, one.body)
                        self._db.execute("INSERT OR IGNORE INTO refused VALUES (?, ?, ?)", row)
                    self._db.execute("DELETE FROM events WHERE n = ?", (one.n,))
                if refused_as is not None:
                    newest = "(SELECT max(n) FROM refused)"
                    self._db.execute(f"DELETE FROM refused WHERE n <= {newest} - ?", (REFUSED_MAX,))
            self._count -= len(batch)
            self._bytes -= sum(len(one.body) for one in batch)

    def tidy(self, now: float) -> None:
        """Forgets calls that ended long ago."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM calls WHERE open = 0 AND at < ?", (now - KEEP_SECONDS,))

    def depth(self) -> tuple[int, int]:
        """How many wait, and their bytes."""
        return self._count, self._bytes

    def shut(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def _event(self, told: Told) -> str:
        """The CloudEvent, numbered."""
        self._db.execute(
            "INSERT INTO calls VALUES (?, 1, '', 0, 0) ON CONFLICT (call) DO UPDATE SET sequence = sequence + 1",
            (told.call,),
        )
        row = self._db.execute("SELECT sequence FROM calls WHERE call = ?", (told.call,)).fetchone()
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{told.call}-{row[0]}",
            "source": self.source,
            "type": f"openclaw.voice.{told.type}",
            "subject": told.call,
            "time": stamp(told.at),
            "sequence": str(row[0]),
            "datacontenttype": "application/json",
            "data": told.data,
        }
        # A lone half of a surrogate pair is no text; the ingress would refuse the event for it.
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace").decode()
