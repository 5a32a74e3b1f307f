"""Where the parts meet: made before the server's script runs, stopped after it has left."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import IO, Any

from . import __version__
from .carrier import Asker, Carrier
from .containment import Faults, log
from .context import Sockets
from .courier import Courier
from .deeds import Deeds
from .guard import Guard
from .journal import Journal
from .observation import Sight, now
from .outbox import Outbox
from .recorder import Recorder
from .routes import Routes
from .settings import Mistake, Settings
from .sideband import Sideband

#: How long the end may be held up to write down what was seen last, besides the delivery.
_WRITE_SECONDS = 5.0


class Tap:
    """Everything of one process."""

    def __init__(self, settings: Settings) -> None:
        """Opens the files. Raises ``Mistake`` when they cannot be."""
        self.settings = settings
        self.faults = Faults()
        self.sight = Sight()
        self.sockets = Sockets()
        #: Libraries that could not be hooked.
        self.missing: list[str] = []
        #: The ``send`` of each open media stream, by its number.
        self.streams: dict[int, Any] = {}
        self._lock = _locked(settings.data_dir)
        at = now()
        self.journal = _opened(settings.data_dir / "intents.db", lambda path: Journal(path, at))
        self.outbox = _opened(settings.data_dir / "events.db", lambda path: Outbox(path, settings.buffer_bytes_max))
        self.recorder = Recorder(self.sight, self.outbox, self.journal, self.faults)
        self.courier = Courier(settings.ingress, settings.event_token, self.outbox, self.faults)
        carrier = Carrier(settings)
        self._asker = Asker(carrier, self.recorder, self.sight, self.faults)
        self._sideband = Sideband(settings, self.recorder, self.sockets, self.faults)
        self.guard = Guard(self.journal, self.faults)
        deeds = Deeds(self.recorder, self.sight, self.sockets, carrier, self.streams)
        self.routes = Routes(self, self.guard, deeds)

    def start(self) -> None:
        """Starts the threads."""
        self.recorder.start()
        self.courier.start()
        self._asker.start()
        self._sideband.start()
        log.info("voicebus-tap %s, data in %s", __version__, self.settings.data_dir)
        if self.settings.token is None:
            log.warning("no VOICEBUS_TAP_TOKEN: the tap's routes answer loopback only, the server's are unprotected")

    def stop(self) -> None:
        """Writes down what was seen and delivers it, for a bounded time."""
        self._asker.stop()
        self._sideband.stop()
        self.recorder.stop(_WRITE_SECONDS)
        self.courier.stop(self.settings.flush_seconds)
        waiting, _ = self.outbox.depth()
        if waiting:
            log.warning("%d events wait on disk for the next start", waiting)

    def status(self) -> dict[str, Any]:
        """How the tap is, for people."""
        waiting, size = self.outbox.depth()
        return {
            "version": __version__,
            "ingress": {"trouble": self.courier.trouble, "delivered": self.courier.delivered,
                        "refused": self.courier.refused},
            "buffer": {"events": waiting, "bytes": size, "dropped": self.outbox.dropped},
            "queue": {"observations": self.sight.depth(), "dropped": self.sight.dropped},
            "calls": self.recorder.ask(lambda book: sum(not call.ended for call in book.calls.values())),
            "faults": self.faults.counts(),
            "missing": self.missing,
        }


def _locked(directory: Path) -> IO[str]:
    """The directory, for this process alone: the lock goes with the process, however it ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(directory / "lock", "w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    except OSError as error:
        raise Mistake(f"--data-dir {directory} cannot be written ({error.strerror})") from None
    # One that is just leaving, after a quick restart, is waited for.
    for _ in range(100):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            time.sleep(0.1)
    raise Mistake(f"another tap uses {directory}; give each server a --data-dir of its own")


def _opened(path: Path, make: Any) -> Any:
    """A database; one that cannot be read is set aside and begun anew, which the journal's
    ``complete_since`` tells."""
    try:
        return make(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise Mistake(f"{path} cannot be opened ({error})") from None
        aside = path.with_name(f"{path.name}.broken-{int(time.time())}")
        os.replace(path, aside)
        for tail in ("-wal", "-shm"):
            path.with_name(path.name + tail).unlink(missing_ok=True)
        log.error("%s cannot be read; it is kept as %s and begun anew", path, aside.name)
        return make(path)
    except OSError as error:
        raise Mistake(f"{path} cannot be opened ({error.strerror})") from None
