"""Reads the public feed with nats-py and holds it against the simulator's own record."""

import asyncio
import json
import subprocess
import sys
from datetime import datetime

import nats
import nats.errors

CALLS = 20


def check_cloudevent(subject, event):
    """CloudEvents 1.0, JSON format: required attributes, their types, and what the subject says."""
    for name in ("specversion", "id", "source", "type"):
        assert isinstance(event[name], str) and event[name], (subject, name)
    assert event["specversion"] == "1.0", subject
    assert datetime.fromisoformat(event["time"].replace("Z", "+00:00")).tzinfo, subject
    assert event["datacontenttype"] == "application/json", subject
    for name in event:
        assert name.isalnum() and name == name.lower(), (subject, name)
    _, _, call, session, kind, action = subject.split(".")
    assert event["subject"] == call, subject
    assert event["type"] == f"openclaw.voice.{kind}.{action}", subject
    assert session.startswith("s-") and len(session) == 18, subject


async def main(run_file, voicebus, record_file):
    with open(run_file) as file:
        run = json.load(file)
    client = await nats.connect(run["observer"])
    live = []

    async def keep(message):
        live.append((message.subject, json.loads(message.data)))

    await client.subscribe("voice.event.>", cb=keep)
    await client.flush()

    await asyncio.to_thread(
        subprocess.run,
        [voicebus, "simulate", "--listen", "127.0.0.1:0", "--target", run["http"], "--calls", str(CALLS),
         "--rate", "0", "--seed", "7", "--reorder", "12", "--duplicate", "10", "--record", record_file, "--exit"],
        check=True, stdout=subprocess.DEVNULL)

    with open(record_file) as file:
        records = [json.loads(line) for line in file]
    accepted = {json.dumps(r["body"], sort_keys=True) for r in records if r["kind"] == "event"}
    spoken = sorted(b["data"]["content"] for b in map(json.loads, accepted) if b["eventType"] == "transcript_update")
    ended = {b["callId"] for b in map(json.loads, accepted) if b["eventType"] == "call_ended"}
    assert len(ended) == CALLS, ended

    def heard():
        return sorted(e["data"]["transcript"]["text"] for _, e in live if "transcript" in e["data"])

    def over():
        return {e["subject"] for _, e in live if e["type"].endswith("state.ended")}

    for _ in range(600):
        if heard() == spoken and over() == ended:
            break
        await asyncio.sleep(0.05)
    assert heard() == spoken, f"{len(heard())} utterances heard, {len(spoken)} spoken"
    assert over() == ended, f"{len(over())} calls ended, {len(ended)} expected"

    sequences = {}
    for subject, event in live:
        check_cloudevent(subject, event)
        sequences.setdefault(event["subject"], []).append(event["sequence"])
    for call, numbers in sequences.items():
        assert numbers == list(range(1, len(numbers) + 1)), (call, numbers)

    back = []
    subscription = await client.jetstream().subscribe("voice.event.>", stream="VOICE_EVENT", ordered_consumer=True)
    while len(back) < len(live):
        message = await subscription.next_msg(timeout=10)
        back.append((message.subject, json.loads(message.data)))
    assert back == live, "what was read back differs from what was seen live"

    try:
        await client.jetstream(timeout=1).publish("voice.cmd.dial.observer", b"{}")
        raise AssertionError("the observer could publish a command")
    except (nats.errors.Error, asyncio.TimeoutError):
        pass
    await client.close()
    print(f"{CALLS} calls, {len(live)} events: each once, in order, valid, live and read back")


asyncio.run(main(*sys.argv[1:]))
