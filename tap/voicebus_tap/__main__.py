"""Arguments in, the server's script run as if it had been started itself, everything flushed at the end."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from types import FrameType

from . import hooks, settings
from .containment import log, set_up_logging
from .tap import Tap

#: Bad usage or configuration, as voicebus itself has it.
EXIT_USAGE = 64


def main() -> int:
    """Runs the script; gives the exit code unless the script raises."""
    set_up_logging()
    try:
        given = settings.read(sys.argv[1:], settings.environment())
        tap = Tap(given)
    except settings.Mistake as mistake:
        log.error("%s", mistake)
        return EXIT_USAGE
    terminated: list[int] = []

    def terminate(number: int, _frame: FrameType | None) -> None:
        terminated.append(number)
        raise SystemExit(128 + number)

    # uvicorn stops on SIGTERM and then passes it on to whoever was here before: without this the
    # process would be gone before anything is flushed.
    signal.signal(signal.SIGTERM, terminate)
    hooks.install(tap)
    tap.start()
    try:
        sys.argv = [str(given.script), *given.script_arguments]
        # As Python does for a script: its directory is the first place for imports.
        sys.path[0] = str(given.script.resolve().parent)
        runpy.run_path(str(given.script), run_name="__main__")
    finally:
        # A second signal must not cut the flush short; it is bounded.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tap.stop()
        if terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), terminated[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
