// Prints the public feed of voicebus: node subscriber.ts URL [COUNT]
// Leaves after COUNT events; without it, goes on.

import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const [url = "nats://127.0.0.1:4222", count = "0"] = process.argv.slice(2);
const { username, password, host } = new URL(url);
const connection = await connect({ servers: host, user: username, pass: password });

// Made once, and found again the next time: the server remembers how far we have read.
const manager = await jetstreamManager(connection);
const name = "example-typescript";
await manager.consumers.add("VOICE_EVENT", {
  durable_name: name,
  filter_subject: "voice.event.>",
  ack_policy: AckPolicy.Explicit,
  deliver_policy: DeliverPolicy.All,
  max_ack_pending: 1, // One after the other; with more, look at `sequence`.
});

let left = Number(count);
const consumer = await jetstream(connection).consumers.get("VOICE_EVENT", name);
for await (const message of await consumer.consume()) {
  const event = message.json<any>();
  const text = event.data.transcript?.text ?? event.data.call?.end_reason ?? "";
  console.log([event.subject, event.sequence, event.type.slice("openclaw.voice.".length), text].join("\t"));
  await message.ackAck(); // Only now does it count as read.
  if (--left === 0) break;
}
await connection.drain();
