"""Prints the public feed of voicebus: subscriber.py URL [COUNT]

Leaves after COUNT events; without it, goes on.
"""

import asyncio
import json
import sys

import nats
from nats.errors import TimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy


async def main(url="nats://127.0.0.1:4222", count="0"):
    connection = await nats.connect(url)
    stream = connection.jetstream()

    # Made once, and found again the next time: the server remembers how far we have read.
    feed = await stream.pull_subscribe(
        "voice.event.>",
        durable="example-python",
        stream="VOICE_EVENT",
        config=ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.ALL,
            max_ack_pending=1,  # One after the other; with more, look at `sequence`.
        ),
    )

    left = int(count)
    while True:
        try:
            [message] = await feed.fetch(1, timeout=30)
        except TimeoutError:
            continue
        event = json.loads(message.data)
        data = event["data"]
        text = data.get("transcript", {}).get("text") or data.get("call", {}).get("end_reason") or ""
        print(event["subject"], event["sequence"], event["type"].removeprefix("openclaw.voice."), text, sep="\t")
        await message.ack_sync()  # Only now does it count as read.
        left -= 1
        if left == 0:
            break
    await connection.drain()


asyncio.run(main(*sys.argv[1:]))
