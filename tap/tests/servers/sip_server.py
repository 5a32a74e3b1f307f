"""A small voice server of the SIP kind: Twilio dials, OpenAI carries the conversation.

``LISTENS=1``: it joins each call it accepts and has an emitter of its own (as the second version of
the real server does); without, it accepts and never hears the call again (as the first).
"""

import asyncio
import json
import os
import threading
import urllib.parse
from datetime import datetime

import httpx
import uvicorn
import websockets
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, Response
from pydantic import BaseModel
from twilio.base.exceptions import TwilioException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

VENDORS = os.environ["VENDORS"]
PORT = int(os.environ["PORT"])
LISTENS = os.environ.get("LISTENS") == "1"
BRIDGE = os.environ.get("OPENCLAW_BRIDGE_URL", "http://127.0.0.1:8082")
NUMBER = "+15005550006"


class ToStandIn(TwilioHttpClient):
    def request(self, method, url, *args, **kwargs):
        return super().request(method, url.replace("https://api.twilio.com", VENDORS), *args, **kwargs)


class Wish(BaseModel):
    to: str
    caller_id: str | None = None
    message: str | None = None


app = FastAPI()
twilio = Client("AC" + "0" * 32, "secret", http_client=ToStandIn())
active: dict[str, dict] = {}


def emit(call: str, kind: str, number: str, direction: str) -> None:
    if not LISTENS:
        return
    event = {"callId": call, "eventType": kind, "phoneNumber": number, "direction": direction,
             "timestamp": datetime.now().isoformat(), "data": {}}
    post = lambda: httpx.Client(timeout=5.0).post(f"{BRIDGE}/call-event", json=event)  # noqa: E731
    threading.Thread(target=post, daemon=True).start()


@app.post("/call")
async def call(wish: Wish, background: BackgroundTasks):
    target = urllib.parse.quote("sip:proj@sip.api.openai.com;transport=tls")
    try:
        made = twilio.calls.create(to=wish.to, from_=NUMBER, timeout=30,
                                   url=f"http://127.0.0.1:{PORT}/twiml/outbound?sip_uri={target}")
    except TwilioException as error:
        raise HTTPException(400, f"Call failed: {error}")
    except Exception:
        raise HTTPException(500, "Internal server error")
    active[made.sid] = {"type": "outbound", "to": wish.to}
    background.add_task(emit, made.sid, "call_started", wish.to, "outbound")
    return {"status": "initiated", "call_id": made.sid, "message": "Call initiated"}


@app.delete("/call/{call_id}")
async def cancel(call_id: str):
    if call_id not in active:
        raise HTTPException(404, "Call not found")
    twilio.calls(call_id).update(status="canceled")
    del active[call_id]
    return {"status": "canceled", "call_id": call_id}


@app.post("/twiml/outbound")
async def twiml(sip_uri: str):
    return Response(f"<Response><Dial><Sip>{sip_uri}</Sip></Dial></Response>", media_type="application/xml")


@app.post("/webhook")
async def webhook(request: Request, background: BackgroundTasks):
    if "x-twilio-signature" in request.headers:
        form = await request.form()
        if form["CallStatus"] in ("completed", "busy", "no-answer", "canceled", "failed"):
            active.pop(str(form["CallSid"]), None)
        return {"status": "processed"}
    event = await request.json()
    call_id = event["data"]["call_id"]
    if event["type"] == "realtime.call.ended":
        active.pop(call_id, None)
        background.add_task(emit, call_id, "call_ended", "", "inbound")
        return {"status": "noted"}
    caller = next((h["value"] for h in event["data"]["sip_headers"] if h["name"] == "From"), "unknown")
    if os.environ.get("REFUSES") == "1":
        background.add_task(operate, call_id, "reject", {"status_code": 480})
        return {"status": "rejected", "call_id": call_id, "reason": "inbound_disabled"}
    background.add_task(emit, call_id, "call_started", caller, "inbound")
    background.add_task(accept, call_id, caller)
    return {"status": "accepted", "call_id": call_id}


async def operate(call_id: str, operation: str, body: dict) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{VENDORS}/v1/realtime/calls/{call_id}/{operation}", json=body)
        return answer.status_code


async def accept(call_id: str, caller: str):
    if await operate(call_id, "accept", {"type": "realtime"}) != 200:
        return
    active.setdefault(call_id, {"type": "inbound", "caller": caller})
    if LISTENS:
        asyncio.create_task(listen(call_id))


async def listen(call_id: str):
    address = f"{VENDORS.replace('http', 'ws')}/v1/realtime?call_id={call_id}"
    connection = await websockets.connect(address, additional_headers={"Authorization": "Bearer key"})
    async for message in connection:
        json.loads(message)


@app.get("/calls")
async def calls():
    return {"active_calls": len(active), "calls": [{"call_id": k, "status": "active", "duration": 1.0, **v}
                                                   for k, v in active.items()]}


@app.get("/health")
async def health():
    return {"status": "ok", "agent": "Nia", "active_calls": len(active), "config_loaded": True}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
