import { strict as assert } from "node:assert";
import { test } from "node:test";
import { reached } from "../lab/process.ts";
import { lines } from "../lab/voicebus.ts";
import { inWorld } from "../lab/world.ts";

const MAIN = "agent:main:main";

test("dialling is off until it is allowed", async () => {
  await inWorld({}, async ({ gateway, voicebus }) => {
    await voicebus.serve();
    const answer = await gateway.tool("voice_call", { to: "+12015550123", purpose: "x" });
    assert.match(answer.text, /^Not called: agents may not place calls here/);
    assert.deepEqual(
      lines(voicebus.dials).filter(({ kind }) => kind === "dial"),
      [],
    );
  });
});

test("a dial that comes to nothing is told in the session that asked", async () => {
  const plugin = { dialling: { allowed: true, numbers: ["*"], deadlineSeconds: 10 } };
  await inWorld({ plugin }, async ({ gateway }) => {
    // There is no call server.
    const queued = await gateway.tool(
      "voice_call",
      { to: "+12015550123", purpose: "x", wait: false },
      { sessionKey: MAIN, idempotencyKey: "w" },
    );
    assert.equal(queued.details["status"], "queued");
    await reached("the outcome is in the session", async () => {
      const history = await gateway.history(MAIN);
      return history.some(({ text }) => /^\[Phone call to \+12…23 was not placed/.test(text));
    });
  });
});
