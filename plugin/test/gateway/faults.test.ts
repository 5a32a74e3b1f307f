import { strict as assert } from "node:assert";
import { test } from "node:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { reached } from "../lab/process.ts";
import { callsCompleted, everyWordIsInItsPlace, inWorld, settled } from "../lab/world.ts";

/** How often the gateway is killed. */
const ROUNDS = 10;
const WORDS = 20;
/** Some twenty events for each call; a gateway takes half a minute to come back. */
const RATE = 5;
const CALLS = ROUNDS * 8;

test("gateway, NATS and voicebus are killed during calls, and no word is lost, doubled or out of order", async () => {
  await inWorld({}, async (world) => {
    const { voicebus, gateway } = world;
    const killed: string[] = [];
    // Slow enough to last through all of it; what NATS cannot take waits in the ingress's spool.
    const calling = voicebus.simulate("calls", [
      ...["--calls", String(CALLS), "--transcripts", String(WORDS), "--rate", String(RATE)],
      ...["--concurrent", "20", "--reorder", "6", "--duplicate", "5", "--seed", "21"],
    ]);
    const written = async () =>
      (await gateway.rpc<{ counts: { written: number } }>("voicebus.status")).counts.written;

    for (let round = 1; round <= ROUNDS; round += 1) {
      await gateway.ready();
      // Killed in the midst of writing.
      const goal = (await written()) + 20;
      await reached("some words are written", async () => (await written()) > goal, 60_000).catch(
        () => undefined,
      );
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
    await calling;
    await callsCompleted(world, CALLS);
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), CALLS * WORDS);
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
    await callsCompleted(world, 22);
    await gateway.up();
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), 22 * 6);
  });
});

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
