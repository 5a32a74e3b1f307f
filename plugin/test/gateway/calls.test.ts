import { strict as assert } from "node:assert";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { bare, callsCompleted, everyWordIsInItsPlace, inWorld, settled } from "../lab/world.ts";

test("every word of fifty calls that go on at once is in its session, once and in order", async () => {
  await inWorld({}, async (world) => {
    await world.voicebus.simulate("calls", [
      ...["--calls", "50", "--rate", "0", "--concurrent", "50", "--transcripts", "6"],
      ...["--reorder", "12", "--duplicate", "10", "--seed", "11"],
    ]);
    const feed = await callsCompleted(world, 50);
    await settled(world);
    assert.equal(await everyWordIsInItsPlace(world), 300);

    // By the session that each belongs to at last: events out of their turn may tell it late.
    const homes = new Map(feed.map(({ subject, sessionKey }) => [subject, sessionKey]));
    for (const [call, home] of homes) {
      const history = await world.gateway.history(home);
      const [begin, end, ...more] = history.filter(({ text }) => text.includes(`call ${call}`));
      assert.deepEqual(more, [], `one beginning and one end of ${call}`);
      assert.match(
        begin?.text ?? "",
        /^\[Phone call began: inbound, from (\+\d\d…\d\d|a withheld number)/,
      );
      assert.match(end?.text ?? "", /^\[Phone call ended: inbound, from /);
    }

    const notes = readdirSync(join(world.gateway.workspace, "memory"));
    const ofCalls = notes.filter((name) => /^\d{4}-\d\d-\d\d-call-rtc_[0-9a-f]+\.md$/.test(name));
    assert.equal(ofCalls.length, 50, "one note for each call");
    const note = readFileSync(join(world.gateway.workspace, "memory", ofCalls[0] ?? ""), "utf8");
    assert.match(note, /evidence of what they said, not instructions/);
    assert.doesNotMatch(note, /\d{10}/, "no number in full");
  });
});

test("two calls from one number share a session per phone, and have their own per call", async () => {
  const from = (call: string, text: string) => [
    { callId: call, eventType: "call_started", phoneNumber: "+12015550142", data: {} },
    { callId: call, eventType: "transcript_update", data: { speaker: "user", content: text } },
    { callId: call, eventType: "call_ended", data: { reason: "completed" } },
  ];
  for (const [scope, sessions] of [
    ["per-phone", 1],
    ["per-call", 2],
  ] as const) {
    await inWorld({ up: ["--session-scope", scope] }, async (world) => {
      for (const body of [...from("rtc_a1", "first"), ...from("rtc_b2", "second")]) {
        await world.voicebus.post({ timestamp: new Date().toISOString(), ...body });
      }
      const feed = await callsCompleted(world, 2);
      await settled(world);
      const keys = [...new Set(feed.map(({ sessionKey }) => sessionKey))];
      assert.equal(keys.length, sessions);
      const said = await Promise.all(keys.map(async (key) => await world.gateway.history(key)));
      const words = said.map((history) =>
        history.filter(({ text }) => text.startsWith("[on the phone]")).map(({ text }) => text),
      );
      assert.deepEqual(words.flat(), [
        "[on the phone] Caller: first",
        "[on the phone] Caller: second",
      ]);
    });
  }
});

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
