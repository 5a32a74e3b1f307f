/**
 * Measures the plugin in a real gateway: `run-tests --figures`. Prints what the README shows.
 */

import { readFileSync } from "node:fs";
import { reached } from "./lab/process.ts";
import { inWorld, settled, type World } from "./lab/world.ts";

const quiet = { notify: "off", memory: { notes: "off" } };
const quantile = (sorted: number[], q: number) => sorted[Math.floor((sorted.length - 1) * q)] ?? 0;

await inWorld({ plugin: quiet }, async (world) => {
  await delays(world, 1, 60);
  await delays(world, 20, 20);
});
await inWorld({ plugin: quiet }, async (world) => {
  const before = memory(world);
  const { voicebus, gateway } = world;
  const begin = performance.now();
  // 500 calls of 18 utterances: with beginnings, ends and whole transcripts some 10,500 events.
  await voicebus.simulate("many", [
    ...[
      "--calls",
      "500",
      "--transcripts",
      "18",
      "--rate",
      "0",
      "--concurrent",
      "50",
      "--seed",
      "77",
    ],
  ]);
  await reached(
    "all calls are completed",
    async () => {
      const { counts } = await gateway.rpc<{ counts: { written: number } }>("voicebus.status");
      return counts.written >= 10_000;
    },
    900_000,
  );
  await settled(world, 900_000);
  const { counts } = await gateway.rpc<{ counts: { written: number } }>("voicebus.status");
  const seconds = (performance.now() - begin) / 1000;
  console.log(
    `${counts.written} messages in ${seconds.toFixed(0)} s: ${(counts.written / seconds).toFixed(0)} messages/s; ` +
      `memory of the gateway ${before} MiB before, ${memory(world)} MiB after`,
  );
});

/** From the POST at the ingress to the message in the session, as a program that watches it sees it. */
async function delays(world: World, calls: number, words: number): Promise<void> {
  const { voicebus, gateway } = world;
  const id = (call: number) => `rtc_d${calls}x${call}`;
  const number = (call: number) => `1201555${String(1000 + call + calls * 50)}`;
  const post = async (call: number, event: Record<string, unknown>) =>
    await voicebus.post({ callId: id(call), timestamp: new Date().toISOString(), ...event });
  const all: number[] = [];
  const oneCall = async (call: number) => {
    await post(call, { eventType: "call_started", phoneNumber: `+${number(call)}` });
    const watch = await gateway.watch(`agent:main:voice:${number(call)}`);
    for (let word = 0; word < words; word += 1) {
      const text = `word ${word} of ${id(call)}`;
      const seen = watch.until(text);
      const begin = performance.now();
      await post(call, {
        eventType: "transcript_update",
        data: { speaker: "user", content: text },
      });
      await seen;
      all.push(performance.now() - begin);
    }
    watch.close();
  };
  await Promise.all(Array.from({ length: calls }, async (_, call) => await oneCall(call)));
  all.sort((a, b) => a - b);
  console.log(
    `${calls} call(s) at once, ${all.length} words: p50 ${quantile(all, 0.5).toFixed(0)} ms, p99 ${quantile(all, 0.99).toFixed(0)} ms`,
  );
}

function memory({ gateway }: World): number {
  const status = readFileSync(`/proc/${gateway.pid}/status`, "utf8");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}
