"""Signs with the vendors' libraries and sends to a running ingress; what they sign must be taken, and
nothing that differs from it by a letter."""

import datetime
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

import openai
from standardwebhooks import Webhook
from twilio.request_validator import RequestValidator

BASE = json.load(open(sys.argv[1]))["http"]
URL = os.environ["VOICEBUS_PUBLIC_URL"] + "/webhook/twilio"
CALL = "CA" + "0123456789abcdef" * 2


def post(path, body, headers):
    request = urllib.request.Request(BASE + path, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def expect(what, answer, code, **fields):
    found, body = answer
    assert found == code, f"{what}: {found} {body}, wanted {code}"
    for name, value in fields.items():
        assert body.get(name) == value, f"{what}: {body}, wanted {name}={value}"
    print(f"ok  {what}: {found}")


def standard_headers(secret, message_id, body):
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body.decode()),
    }


def openai_webhooks():
    event = {
        "object": "event",
        "id": "evt_1",
        "type": "realtime.call.incoming",
        "created_at": 1795348798,
        "data": {
            "call_id": "rtc_signed",
            "sip_headers": [{"name": "From", "value": "\"Zoë\" <sip:+12015550142@sip.example.com>"}],
        },
    }
    body = json.dumps(event, ensure_ascii=False).encode()
    for number, secret in enumerate(os.environ["VOICEBUS_OPENAI_WEBHOOK_SECRET"].split(",")):
        headers = standard_headers(secret, f"wh_{number}", body)
        client = openai.OpenAI(api_key="none", webhook_secret=secret)
        assert client.webhooks.unwrap(body, headers).data.call_id == "rtc_signed"
        answer = post("/webhook/openai", body, headers)
        expect(f"openai, key {number}", answer, 200, status="accepted", duplicate=number > 0)
        expect("openai, body changed", post("/webhook/openai", body + b" ", headers), 401)
    own = os.environ["VOICEBUS_EVENT_SECRET"]
    expect("openai, key of another door", post("/webhook/openai", body, standard_headers(own, "wh_9", body)), 401)


def own_events():
    body = json.dumps({
        "callId": "rtc_signed", "eventType": "call_ended", "phoneNumber": "", "direction": "",
        "timestamp": "2026-11-22T12:32:16.172805", "data": {},
    }).encode()
    headers = standard_headers(os.environ["VOICEBUS_EVENT_SECRET"], "ev-1", body)
    expect("own event", post("/call-event", body, headers), 200, duplicate=False)
    expect("own event again", post("/call-event", body, headers), 200, duplicate=True)
    expect("own event, unsigned", post("/call-event", body, {"content-type": "application/json"}), 401)


def twilio_callbacks():
    validator = RequestValidator(os.environ["VOICEBUS_TWILIO_AUTH_TOKEN"])
    statuses = ["queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "canceled", "failed"]
    for number, status in enumerate(statuses):
        form = {
            "CallSid": CALL, "CallStatus": status, "Direction": "outbound-api", "From": "+15005550001",
            "To": "+12015550123", "SequenceNumber": str(number), "CallbackSource": "call-progress-events",
            "Timestamp": "Sun, 22 Nov 2026 12:00:00 +0000", "CallerName": "Zoë & Ärger = 50 %", "Empty": "",
        }
        body = urllib.parse.urlencode(form).encode()
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "x-twilio-signature": validator.compute_signature(URL, form),
        }
        expect(f"twilio {status}", post("/webhook/twilio", body, headers), 200, duplicate=False)
        expect("twilio, parameter added", post("/webhook/twilio", body + b"&x=1", headers), 403)
    body = json.dumps({"CallSid": CALL, "CallStatus": "completed"})
    query = "?bodySHA256=" + validator.compute_hash(body)
    headers = {
        "content-type": "application/json",
        "x-twilio-signature": validator.compute_signature(URL + query, {}),
    }
    expect("twilio JSON", post("/webhook/twilio" + query, body.encode(), headers), 200)
    expect("twilio JSON, changed", post("/webhook/twilio" + query, body.encode() + b" ", headers), 403)
    headers["x-twilio-signature"] = validator.compute_signature(URL, {})
    expect("twilio JSON, not covered", post("/webhook/twilio", body.encode(), headers), 403)


openai_webhooks()
own_events()
twilio_callbacks()
print("all as the vendors' libraries sign it")
