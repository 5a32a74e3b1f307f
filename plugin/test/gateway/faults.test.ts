import { strict as assert } from "node:assert";
import { test } from "node:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { reached } from "../lab/process.ts";
import {
  callsCompleted,
  everyCallIsToldOnce,
  everyWordIsInItsPlace,
  inWorld,
  settled,
  type World,
} from "../lab/world.ts";

/** How often the gateway is killed. */
const ROUNDS = 10;
/** What begins before each kill: calls, words in each, and events in a second, some 25 for a call. */
const CALLS = 8;
const WORDS = 20;
const RATE = 5;

test("gateway, NATS and voicebus are killed during calls, and no word is lost, doubled or out of order", async () => {
  await inWorld({}, async (world) => {
    const { voicebus, gateway } = world;
    const killed: string[] = [];
    const calling: Promise<unknown>[] = [];
    const written = async () =>
      (await gateway.rpc<{ counts: { written: number } }>("voicebus.status")).counts.written;

    for (let round = 1; round <= ROUNDS; round += 1) {
      await gateway.ready();
      // Killed in the midst of writing: these go on while the gateway is away, and what NATS cannot
      // take waits in the ingress's spool.
      const goal = await reached("the plugin runs", async () => (await written()) + 20);
      calling.push(
        voicebus.simulate(`calls-${round}`, [
          ...["--calls", String(CALLS), "--transcripts", String(WORDS), "--rate", String(RATE)],
          ...["--concurrent", "20", "--reorder", "6", "--duplicate", "5"],
          ...["--seed", String(20 + round)],
        ]),
      );
      await reached("some words are written", async () => (await written()) > goal);
      if (round === 1 || round === 7) {
        voicebus.killNats();
        killed.push("nats-server");
      }
      if (round === 3 || round === 9) {
        await voicebus.killAndRestart();
        killed.push("voicebus");
      }
      await gateway.kill();
      killed.push("gateway");
      gateway.launch();
    }
    await gateway.ready();
    await Promise.all(calling);
    await callsCompleted(world, ROUNDS * CALLS);
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), ROUNDS * CALLS * WORDS);
    await everyCallIsToldOnce(world);
    assert.deepEqual(new Set(killed), new Set(["gateway", "nats-server", "voicebus"]));
    assert.deepEqual(await voicebus.backlog(), { pending: 0, unacknowledged: 0 });
  });
});

test("calls that were made while the gateway was away are written when it is back", async () => {
  await inWorld({}, async (world) => {
    const { voicebus, gateway } = world;
    await voicebus.simulate("before", ["--calls", "2", "--rate", "0", "--seed", "1"]);
    await settled(world);
    await gateway.stop();
    await voicebus.simulate("meanwhile", ["--calls", "20", "--rate", "0", "--seed", "2"]);
    await aCallOfYesterday(world);
    await callsCompleted(world, 23);
    await gateway.up();
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), 22 * 6 + 2);
    await everyCallIsToldOnce(world);
    // Nor does it matter how long ago it was that something was written.
    await gateway.kill();
    await gateway.up();
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), 22 * 6 + 2);
    await everyCallIsToldOnce(world);
  });
});

/** One that was over a day before anybody could hear of it. */
async function aCallOfYesterday({ voicebus }: World): Promise<void> {
  const begin = Date.now() - 26 * 3_600_000;
  const events = [
    { eventType: "call_started", phoneNumber: "+12015550142", direction: "inbound" },
    { eventType: "transcript_update", data: { speaker: "user", content: "Hello [rtc_01d 1/2]" } },
    { eventType: "transcript_update", data: { speaker: "user", content: "Bye [rtc_01d 2/2]" } },
    { eventType: "call_ended", data: { reason: "completed" } },
  ];
  for (const [index, event] of events.entries()) {
    const timestamp = new Date(begin + index * 1000).toISOString();
    await voicebus.post({ callId: "rtc_01d", timestamp, ...event });
  }
}

test("a consumer that somebody deletes is made again where it was", async () => {
  await inWorld({}, async (world) => {
    const { voicebus } = world;
    await voicebus.simulate("before", ["--calls", "3", "--rate", "0", "--seed", "1"]);
    await settled(world);
    const connection = await voicebus.connect("provision");
    const manager = await jetstreamManager(connection, { checkAPI: false });
    await manager.consumers.delete("VOICE_EVENT", "openclaw");
    await connection.close();
    await voicebus.simulate("meanwhile", ["--calls", "10", "--rate", "0", "--seed", "2"]);
    await callsCompleted(world, 13);
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), 13 * 6);
  });
});
