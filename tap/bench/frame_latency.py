"""How much the tap adds to a WebSocket frame: hooked against unhooked, on the paths of both ends.

    python bench/frame_latency.py [frames]

No network: the connection underneath is replaced, so that what is measured is the hook alone. The
recorder, with its disk, runs beside as in a server. Fails when a 99th percentile is 50 µs or more.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

AUDIO = "A" * 6400  # 200 ms of 16 kHz audio in base64
BOUND_US = 50.0


def frames() -> dict[str, str]:
    return {
        "OpenAI audio": json.dumps({"type": "response.audio.delta", "event_id": "e", "delta": AUDIO}),
        "OpenAI words": json.dumps({"type": "response.audio_transcript.done", "item_id": "i", "transcript": "Good day."}),
        "OpenAI session (20 kB)": json.dumps({"type": "session.updated", "session": {"instructions": "x" * 20_000}}),
    }


async def of_recv(connection: Any, text: str, count: int) -> list[float]:
    took = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        await connection.recv()
        took.append((time.perf_counter_ns() - begin) / 1000)
        await asyncio.sleep(0)
    return took


async def of_door(door: Any, text: str, count: int) -> list[float]:
    """A media stream: the handler's ``receive`` of a frame."""
    took: list[float] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        for _ in range(count):
            begin = time.perf_counter_ns()
            await receive()
            took.append((time.perf_counter_ns() - begin) / 1000)
            await asyncio.sleep(0)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.receive", "text": text}

    async def send(_message: Any) -> None:
        pass

    door.app = app
    await door({"type": "websocket", "path": "/media-stream", "headers": []}, receive, send)
    return took


async def main(count: int) -> int:
    from websockets.asyncio.client import ClientConnection

    from voicebus_tap import settings
    from voicebus_tap.door import Door
    from voicebus_tap.hooks import websocket
    from voicebus_tap.observation import SocketOpened, StreamStarted, now
    from voicebus_tap.tap import Tap

    directory = tempfile.mkdtemp()
    script = os.path.join(directory, "server.py")
    Path(script).write_text("")
    tap = Tap(settings.read(["--data-dir", directory, "--ingress", "http://127.0.0.1:9", script], {}))
    tap.recorder.start()

    text = ""

    async def recv(_self: Any) -> str:
        return text

    ClientConnection.recv = recv  # type: ignore[method-assign,assignment]
    plain = type("Plain", (), {"recv": recv})()
    websocket.install(tap)
    hooked = ClientConnection.__new__(ClientConnection)
    hooked.voicebus_number = 1  # type: ignore[attr-defined]
    tap.sight.put(StreamStarted(now(), 1, "CA1"))
    tap.sight.put(SocketOpened(now(), 1, "CA1", False))

    rows = []
    for name, text in frames().items():
        rows.append((name, await of_recv(plain, text, count), await of_recv(hooked, text, count)))
    text = json.dumps({"event": "media", "sequenceNumber": "2", "media": {"track": "inbound", "payload": "/" * 216}})
    door = Door(None, tap)

    class Bare:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)  # type: ignore[attr-defined]

    rows.append(("Twilio audio", await of_door(Bare(), text, count), await of_door(door, text, count)))

    worst = 0.0
    print(f"{'frame':24} {'plain p50':>10} {'p99':>7} {'tapped p50':>11} {'p99':>7} {'added p50':>10} {'p99':>7}   (µs, {count} frames)")
    for name, without, with_tap in rows:
        q = [(statistics.median(v), statistics.quantiles(v, n=100)[98]) for v in (without, with_tap)]
        added = (q[1][0] - q[0][0], q[1][1] - q[0][1])
        worst = max(worst, added[1])
        print(f"{name:24} {q[0][0]:10.2f} {q[0][1]:7.2f} {q[1][0]:11.2f} {q[1][1]:7.2f} {added[0]:10.2f} {added[1]:7.2f}")
    print("dropped:", tap.sight.dropped, "faults:", tap.faults.counts())
    return 0 if worst < BOUND_US else 1


if __name__ == "__main__":
    gc.freeze()
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)))
