"""Stand-ins for Twilio's REST API and for OpenAI's REST and Realtime APIs, on one loopback port.

They run in a thread of the tests' own process; a test drives them by calling their methods.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Dialled:
    sid: str
    form: dict[str, str]
    status: str = "queued"
    made_at: float = field(default_factory=time.time)


class Realtime:
    """One connection to the Realtime API."""

    def __init__(self, websocket: WebSocket, call: str | None, loop: asyncio.AbstractEventLoop) -> None:
        self.call = call
        self.heard: list[dict[str, Any]] = []
        self.open = True
        self._websocket = websocket
        self._loop = loop

    def push(self, *frames: dict[str, Any]) -> None:
        for frame in frames:
            text = json.dumps({"event_id": f"event_{secrets.token_hex(8)}", **frame}, separators=(",", ":"))
            asyncio.run_coroutine_threadsafe(self._websocket.send_text(text), self._loop).result(10)

    def close(self, code: int = 1000) -> None:
        asyncio.run_coroutine_threadsafe(self._websocket.close(code), self._loop).result(10)

    def heard_types(self) -> list[str]:
        return [frame.get("type", "") for frame in self.heard]


class Vendors:
    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.calls: dict[str, Dialled] = {}
        self.creates = 0
        self.model: list[tuple[str, str]] = []  # (operation, call)
        self.sockets: list[Realtime] = []
        #: What becomes of a dial: "ok", "refuse", "lose" (made, but the answer is cut off), "hold".
        self.dialling = "ok"
        self.accepting = 200
        self.session: dict[str, Any] = {}
        self._release = threading.Event()
        app = FastAPI()
        base = "/2010-04-01/Accounts/{account}"
        app.post(base + "/Calls.json")(self._create)
        app.get(base + "/Calls.json")(self._list)
        app.get(base + "/Calls/{sid}.json")(self._call)
        app.post(base + "/Calls/{sid}.json")(self._update)
        app.get(base + "/IncomingPhoneNumbers.json")(self._numbers)
        app.post("/v1/realtime/calls/{call}/{operation}")(self._operate)
        app.post("/v1/chat/completions")(self._chat)
        app.websocket("/v1/realtime")(self._realtime)
        config = uvicorn.Config(app, port=self.port, log_level="error", ws_max_size=2**24)
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        threading.Thread(target=self._server.run, daemon=True).start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._release.set()
        self._server.should_exit = True

    def socket_of(self, call: str) -> Realtime | None:
        return next((s for s in reversed(self.sockets) if s.call == call and s.open), None)

    def release(self) -> None:
        """Lets go of the dials that are held."""
        self._release.set()

    async def _create(self, request: Request) -> Response:
        form = {k: str(v) for k, v in (await request.form()).items()}
        self.creates += 1
        if self.dialling == "refuse":
            return JSONResponse({"code": 21211, "message": "not a valid phone number", "status": 400}, 400)
        if self.dialling == "hold":
            await asyncio.to_thread(self._release.wait, 60)
        call = Dialled("CA" + secrets.token_hex(16), form)
        self.calls[call.sid] = call
        if self.dialling == "lose":
            # Longer than what follows: the client sees the connection break off in the answer.
            return Response(b"", 201, {"content-length": "500"})
        return JSONResponse(record(call), 201)

    async def _list(self) -> Response:
        return JSONResponse({"calls": [record(call) for call in reversed(self.calls.values())]})

    async def _call(self, sid: str) -> Response:
        if sid not in self.calls:
            return JSONResponse({"code": 20404, "message": "not found", "status": 404}, 404)
        return JSONResponse(record(self.calls[sid]))

    async def _update(self, sid: str, request: Request) -> Response:
        form = {k: str(v) for k, v in (await request.form()).items()}
        if sid not in self.calls:
            return JSONResponse({"code": 20404, "message": "not found", "status": 404}, 404)
        call = self.calls[sid]
        if form.get("Status") == "canceled" and call.status in ("queued", "ringing"):
            call.status = "canceled"
        if form.get("Status") == "completed":
            call.status = "completed"
        return JSONResponse(record(call))

    async def _numbers(self) -> Response:
        return JSONResponse({"incoming_phone_numbers": []})

    async def _operate(self, call: str, operation: str) -> Response:
        self.model.append((operation, call))
        return Response(status_code=self.accepting if operation == "accept" else 200)

    async def _chat(self) -> Response:
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": "A summary."}}]})

    async def _realtime(self, websocket: WebSocket) -> None:
        await websocket.accept()
        connection = Realtime(websocket, websocket.query_params.get("call_id"), asyncio.get_running_loop())
        self.sockets.append(connection)
        await websocket.send_text(json.dumps({"type": "session.created", "session": self.session}))
        try:
            while True:
                frame = json.loads(await websocket.receive_text())
                if frame.get("type") != "input_audio_buffer.append":
                    connection.heard.append(frame)
                if frame.get("type") == "session.update":
                    session = frame["session"]
                    await websocket.send_text(json.dumps({"type": "session.updated", "session": session}))
        except (WebSocketDisconnect, RuntimeError):
            connection.open = False


def record(call: Dialled) -> dict[str, Any]:
    return {"sid": call.sid, "status": call.status, "to": call.form.get("To"), "from": call.form.get("From"),
            "account_sid": "AC" + "0" * 32, "date_created": None, "direction": "outbound-api"}


_items = itertools.count(1)


def turn(user: str, agent: str, *, old: bool = True, late: bool = True) -> list[dict[str, Any]]:
    """The frames of one exchange: a question and its answer. With ``late`` the words of the question
    are final after those of the answer, as they mostly are."""
    question, reply = f"item_q{next(_items)}", f"item_a{next(_items)}"
    heard = {"type": "conversation.item.input_audio_transcription.completed", "item_id": question,
             "content_index": 0, "transcript": user}
    name = "response.audio_transcript" if old else "response.output_audio_transcript"
    frames: list[dict[str, Any]] = [
        {"type": "input_audio_buffer.speech_started", "item_id": question, "audio_start_ms": 10},
        {"type": "input_audio_buffer.speech_stopped", "item_id": question, "audio_end_ms": 900},
        {"type": "input_audio_buffer.committed", "item_id": question},
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.added", "item": {"id": reply, "type": "message", "role": "assistant"}},
        {"type": f"{name}.delta", "item_id": reply, "delta": agent[:2]},
        {"type": f"{name}.done", "item_id": reply, "content_index": 0, "transcript": agent},
        {"type": "response.done", "response": {"id": "r", "status": "completed", "output": [
            {"id": reply, "type": "message", "content": [{"type": "audio", "transcript": agent}]}]}},
    ]
    frames.insert(7 if late else 3, heard)
    return frames
