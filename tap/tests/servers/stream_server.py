"""A small voice server of the media-stream kind: the audio of each call passes through it."""

import asyncio
import json
import os

import uvicorn
import websockets
from fastapi import FastAPI, HTTPException, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from twilio.base.exceptions import TwilioException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

VENDORS = os.environ["VENDORS"]
PORT = int(os.environ["PORT"])
NUMBER = "+15005550006"


class ToStandIn(TwilioHttpClient):
    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("https://api.twilio.com", VENDORS), *args, **kwargs)


class Wish(BaseModel):
    to: str
    message: str | None = None


app = FastAPI()
twilio = Client("AC" + "0" * 32, "secret", http_client=ToStandIn())
active: dict[str, dict] = {}


@app.post("/voice/incoming")
async def incoming():
    return Response("<Response><Connect><Stream url='x'/></Connect></Response>", media_type="application/xml")


@app.post("/voice/status")
async def status():
    return Response("<Response/>", media_type="application/xml")


@app.post("/call")
async def call(wish: Wish):
    try:
        made = twilio.calls.create(to=wish.to, from_=NUMBER, url=f"http://127.0.0.1:{PORT}/voice/incoming")
    except TwilioException as error:
        raise HTTPException(400, f"Call failed: {error}")
    except Exception:
        raise HTTPException(500, "Internal server error")
    active[made.sid] = {"type": "outbound", "to": wish.to}
    return {"status": "initiated", "call_id": made.sid, "message": "Call initiated"}


@app.delete("/call/{call_id}")
async def cancel(call_id: str):
    if call_id not in active:
        raise HTTPException(404, "Call not found")
    twilio.calls(call_id).update(status="canceled")
    del active[call_id]
    return {"status": "canceled", "call_id": call_id}


@app.websocket("/media-stream")
async def media(websocket: WebSocket):
    await websocket.accept()
    model, task, call_sid = None, None, None

    async def receive():
        async for message in model:
            frame = json.loads(message)
            if frame["type"] == "response.audio.delta":
                await websocket.send_text(json.dumps({"event": "media", "media": {"payload": frame["delta"]}}))

    try:
        while True:
            frame = json.loads(await websocket.receive_text())
            if frame["event"] == "start":
                call_sid = frame["start"]["callSid"]
                active.setdefault(call_sid, {"type": "unknown"})["status"] = "active"
                model = await websockets.connect(f"{VENDORS.replace('http', 'ws')}/v1/realtime?model=m",
                                                 additional_headers={"Authorization": "Bearer key"})
                await model.send(json.dumps({"type": "session.update", "session": {
                    "instructions": "x" * 5000, "input_audio_transcription": {"model": "whisper-1"}}}))
                task = asyncio.create_task(receive())
            elif frame["event"] == "media":
                await model.send(json.dumps({"type": "input_audio_buffer.append",
                                             "audio": frame["media"]["payload"]}))
            elif frame["event"] == "stop":
                break
    except WebSocketDisconnect:
        pass
    finally:
        if task:
            task.cancel()
        if model:
            await model.close()
        if call_sid in active:
            active[call_sid]["status"] = "completed"


@app.get("/calls")
async def calls():
    return {"active_calls": len(active), "calls": [
        {"call_id": k, "duration": 1.0, "to": None, "from": None, "status": "initiated", **v} for k, v in active.items()]}


@app.get("/health")
async def health():
    return {"status": "ok", "architecture": "twilio-media-streams", "active_calls": len(active)}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
