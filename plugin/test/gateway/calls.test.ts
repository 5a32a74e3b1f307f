import { strict as assert } from "node:assert";
import { test } from "node:test";
import { bare, callsCompleted, inWorld, settled } from "../lab/world.ts";

test("after a call, the whole of it is written once, in the order in which it was spoken", async () => {
  await inWorld({ plugin: { transcript: "after", memory: { notes: "off" } } }, async (world) => {
    await world.voicebus.simulate("calls", [
      ...["--calls", "8", "--rate", "0", "--transcripts", "10", "--reorder", "12", "--seed", "3"],
    ]);
    const feed = await callsCompleted(world, 8);
    await settled(world);
    for (const event of feed.filter(({ what }) => what === "transcript.completed")) {
      const history = await world.gateway.history(event.sessionKey);
      const written = history
        .filter(({ text }) => text.includes(`[${event.subject} `))
        .map(({ text }) => bare(text));
      const spoken = event.data.conversation?.utterances.map(({ text }) => text);
      assert.deepEqual(written, spoken);
    }
  });
});
