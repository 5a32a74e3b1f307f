"""Nothing that goes wrong in the tap reaches the server: it is counted, and said once in a while."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("voicebus_tap")

#: After the first of a kind, every hundredth is said again: a log is no place for a flood.
SAY_EVERY = 100


class Faults:
    """Counts what was contained, by place."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def contained(self, place: str) -> Iterator[None]:
        """Swallows every exception of the block. ``place`` names it, for the log and the count."""
        try:
            yield
        except Exception as error:
            self.note(place, error)

    def note(self, place: str, error: BaseException) -> None:
        """Counts one. Only the exception's type and line are said: its text may hold what was said."""
        with self._lock:
            self._counts[place] += 1
            count = self._counts[place]
        if count % SAY_EVERY == 1:
            log.warning(
                "fault %d in %s: %s%s; the server is not affected",
                count, place, type(error).__name__, _where(error),
            )

    def counts(self) -> dict[str, int]:
        """How many were contained, by place."""
        with self._lock:
            return dict(self._counts)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" at {trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"


def set_up_logging() -> None:
    """Logs to stderr, apart from whatever logging the server sets up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s voicebus-tap %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
