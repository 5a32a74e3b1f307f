"""The thread that reads the queue, asks the book and writes the outbox.

What it could not write it keeps and tries again, and reads no further meanwhile: the queue fills up
and is bounded, so a disk that stands still costs memory up to that bound and then what comes last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .book import Book
from .call import Call, Paired, Told
from .containment import Faults, log
from .journal import Journal
from .observation import CarrierDialled, Observation, Sight, now
from .outbox import Outbox

#: How often time is looked at when nothing happens: what is held back for its order comes this much late.
TICK_SECONDS = 0.25
RETRY_SECONDS = 1.0
#: How often what is too old is deleted.
TIDY_SECONDS = 3600.0

T = TypeVar("T")


class Recorder:
    """Owns the book. Others look into it by ``ask``."""

    def __init__(self, sight: Sight, outbox: Outbox, journal: Journal, faults: Faults) -> None:
        self._sight = sight
        self._outbox = outbox
        self._journal = journal
        self._faults = faults
        self._book = Book()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="voicebus-recorder", daemon=True)

    def start(self) -> None:
        """Takes over the calls of the process before, and starts."""
        outcome: list[Told | Paired] = []
        for snapshot in self._outbox.open_calls():
            with self._lock, self._faults.contained("book: restore"):
                outcome.extend(self._book.restore(snapshot, now()))
        self._write(outcome)
        for intent, number, at in self._journal.abandoned:
            # As if its answer had been lost, which it was.
            self._sight.put(CarrierDialled(at, {"To": number}, None, b"", intent))
        self._thread.start()

    def stop(self, wait_seconds: float) -> None:
        """Writes what is in the queue and stops."""
        self._stop.set()
        self._thread.join(wait_seconds)

    def ask(self, look: Callable[[Book], T]) -> T:
        """Looks into the book; nothing is written meanwhile, and no disk is waited for."""
        with self._lock:
            return look(self._book)

    def unknown_of(self, calls: list[str]) -> list[str]:
        """Those of the calls of which nothing was ever heard."""
        return [c for c in calls if self.ask(lambda book: book.find(c)) is None and not self._outbox.knows(c)]

    def _run(self) -> None:
        tidy_at = 0.0
        while True:
            stopping = self._stop.is_set()
            if time.monotonic() >= tidy_at:
                tidy_at = time.monotonic() + TIDY_SECONDS
                with self._faults.contained("tidy"):
                    self._outbox.tidy(now())
                    self._journal.forget(now())
            seen = self._sight.take(0.0 if stopping else TICK_SECONDS)
            self._write(self._read(seen))
            if stopping and not seen:
                return

    def _read(self, seen: list[Observation]) -> list[Told | Paired]:
        outcome: list[Told | Paired] = []
        for observation in seen:
            with self._lock, self._faults.contained(f"book: {type(observation).__name__}"):
                outcome.extend(self._book.apply(observation))
        with self._lock, self._faults.contained("book: tick"):
            outcome.extend(self._book.tick(now()))
        return outcome

    def _write(self, outcome: list[Told | Paired]) -> None:
        with self._lock:
            names, self._book.changed = self._book.changed, set()
            calls: list[Call] = [call for call in map(self._book.calls.get, names) if call is not None]
        for pair in outcome:
            if isinstance(pair, Paired):
                with self._faults.contained("journal"):
                    self._journal.pair(pair.intent, pair.call)
        told = [one for one in outcome if isinstance(one, Told)]
        stuck = False
        while told or calls:
            try:
                self._outbox.store(told, calls, now())
                break
            except Exception as error:
                self._faults.note("outbox", error)
                if not stuck:
                    log.error("the buffer on disk cannot be written (is the disk full?); events wait in memory")
                stuck = True
                # At the end there is nobody left to wait for.
                if self._stop.wait(RETRY_SECONDS):
                    return
        if stuck:
            log.info("the buffer on disk is written again")
