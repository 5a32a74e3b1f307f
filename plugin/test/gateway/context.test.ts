import { strict as assert } from "node:assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StandInModel } from "../lab/model.ts";
import { reached } from "../lab/process.ts";
import { inWorld } from "../lab/world.ts";

test("a call is told what its session knows, and told again when the session moves on", async () => {
  const model = await StandInModel.start();
  const { models, agents } = model.config;
  const plugin = { context: { everySeconds: 1, ownerNumbers: ["+12015550142"] }, notify: "off" };
  try {
    await inWorld({ plugin, gateway: { models, agents } }, async (world) => {
      const { voicebus, gateway } = world;
      const sessionKey = "agent:main:voice:12015550142";
      const chat = async (message: string) =>
        await gateway.rpc("chat.send", { sessionKey, message, idempotencyKey: message });
      const contexts = async () =>
        (await voicebus.feed())
          .filter(({ what }) => what === "context.injected")
          .map(({ data }) => JSON.stringify(data));
      await chat("The appointment is on Tuesday.");
      // The first turn makes the workspace.
      await reached("the turn is over", () => model.requests.length > 0);
      writeFileSync(join(gateway.workspace, "USER.md"), "Likes to be called Zoë.");
      await voicebus.post({
        ...{ callId: "rtc_c1", timestamp: new Date().toISOString() },
        ...{ eventType: "call_started", phoneNumber: "+12015550142" },
      });
      const [first] = await reached("the call is told", async () => {
        const told = await contexts();
        return told.length > 0 && told;
      });
      assert.match(first ?? "", /The appointment is on Tuesday/);
      assert.match(first ?? "", /Likes to be called Zoë/);
      await chat("It has been moved to Friday.");
      await reached("the call is told again", async () =>
        (await contexts()).some((told) => told.includes("moved to Friday")),
      );
    });
  } finally {
    await model.stop();
  }
});
