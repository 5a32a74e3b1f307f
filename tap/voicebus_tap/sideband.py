"""Listens to SIP calls whose server does not, and asks for the caller's words where it shall.

The first SIP versions of the server accept a call and never hear it again. OpenAI lets anybody with
the account's key join a call (``wss://…/v1/realtime?call_id=…``); so the tap does, once the server has
had its time to. What comes in is seen by the same hook as the server's own connections. None of the SIP
versions has OpenAI transcribe the caller; with ``--transcribe`` the tap asks for that, once a connection.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import threading
from typing import TYPE_CHECKING, Any

from .book import Book
from .containment import Faults, log
from .context import Sockets
from .settings import Settings

if TYPE_CHECKING:
    from .recorder import Recorder

#: How long after its answer a call is left to its server. It connects within a second.
WAIT_SECONDS = 2.0
#: How often a call that could not be joined is tried again.
TRIES_MAX = 5


class Sideband:
    """A thread with a loop of its own."""

    def __init__(self, settings: Settings, recorder: Recorder, sockets: Sockets, faults: Faults) -> None:
        self._key = settings.openai_key
        self._model = settings.transcribe
        self._sockets = sockets
        self._asked: set[int] = set()
        self._url = settings.openai_url.replace("http", "ws", 1) + "/v1/realtime?call_id="
        self._joins = settings.sideband and bool(self._key)
        self._recorder = recorder
        self._faults = faults
        self._stop = threading.Event()
        self._tries: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Starts the thread, if it is wanted and can be."""
        if not self._joins and self._model is None:
            return
        if importlib.util.find_spec("websockets") is None:
            log.warning("not here: websockets; calls whose server does not listen are told without words")
            return
        threading.Thread(target=self._run, name="voicebus-sideband", daemon=True).start()

    def stop(self) -> None:
        """Joins no more calls."""
        self._stop.set()

    def _run(self) -> None:
        with self._faults.contained("sideband"):
            asyncio.run(self._watch())

    async def _watch(self) -> None:
        silent: dict[str, int] = {}
        while not self._stop.is_set():
            await asyncio.sleep(0.5)
            with self._faults.contained("transcription"):
                await self._ask_for_words()
            with self._faults.contained("sideband"):
                calls = self._recorder.ask(_unheard) if self._joins else []
                silent = {leg: silent.get(leg, 0) + 1 for leg in calls}
                self._tries = {leg: n for leg, n in self._tries.items() if leg in calls or leg in self._tasks}
                for leg, looks in silent.items():
                    due = looks * 0.5 >= WAIT_SECONDS * (1 + self._tries.get(leg, 0))
                    if due and leg not in self._tasks and self._tries.get(leg, 0) < TRIES_MAX:
                        self._tries[leg] = self._tries.get(leg, 0) + 1
                        task = asyncio.create_task(self._listen(leg))
                        self._tasks[leg] = task
                        task.add_done_callback(lambda _, leg=leg: self._tasks.pop(leg, None))  # type: ignore[misc]

    async def _ask_for_words(self) -> None:
        if self._model is None:
            return
        silent = self._recorder.ask(lambda book: book.untranscribed())
        for number in silent:
            connection = self._sockets.get(number)
            if number in self._asked or connection is None:
                continue
            self._asked.add(number)
            session = {"type": "realtime", "audio": {"input": {"transcription": {"model": self._model}}}}
            sending = connection.send(json.dumps({"type": "session.update", "session": session}))
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, connection.loop))
        self._asked &= set(silent)

    async def _listen(self, leg: str) -> None:
        with self._faults.contained("sideband connection"):
            connect: Any = importlib.import_module("websockets.asyncio.client").connect
            headers = {"Authorization": f"Bearer {self._key}"}
            async with connect(self._url + leg, additional_headers=headers) as connection:
                async for _ in connection:
                    pass


def _unheard(book: Book) -> list[str]:
    """The SIP calls that go on and that nobody listens to, by OpenAI's id."""
    legs = ((call, call.leg or call.id) for call in book.calls.values())
    return [
        leg for call, leg in legs
        if leg.startswith("rtc_") and call.answered and not (call.ended or call.streamed or book.sockets_of(call))
    ]
