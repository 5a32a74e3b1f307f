import { strict as assert } from "node:assert";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { reached } from "../lab/process.ts";
import { callsCompleted, inWorld, settled, type World } from "../lab/world.ts";

type Status = { state: string; problem?: string; counts: { written: number } };

const status = async ({ gateway }: World) => await gateway.rpc<Status>("voicebus.status");

test("people see how it is, on the command line, over HTTP and by a method", async () => {
  await inWorld({}, async (world) => {
    const { voicebus, gateway } = world;
    await voicebus.serve();
    await voicebus.simulate("calls", ["--calls", "1", "--rate", "0", "--seed", "9"]);
    const feed = await callsCompleted(world, 1);
    await settled(world);
    assert.equal((await status(world)).state, "working");
    const page = await gateway.http("/voicebus/status");
    assert.equal(page.status, 200);
    assert.equal((await gateway.http("/voicebus/status", undefined, "")).status, 401);

    const shown = await gateway.cli(["voicebus", "status"]);
    assert.equal(shown.code, 0, shown.output);
    assert.match(shown.output, /state +working/);
    const calls = await gateway.cli(["voicebus", "calls"]);
    assert.match(calls.output, new RegExp(`- ${feed[0]?.subject}: ended, inbound`));
    assert.match(
      (await gateway.cli(["voicebus", "link", "Bob", "agent:main:main"])).output,
      /no phone number/,
    );
    const link = ["voicebus", "link", "+12015550142", "agent:main:main"];
    assert.match(
      (await gateway.cli(link)).output,
      /Calls from \+12…42 go to the session agent:main:main/,
    );
    assert.match(
      (await gateway.cli(["voicebus", "unlink", "+12015550142"])).output,
      /go to the usual session again/,
    );
  });
});

test("who looks at a session sees what is said at once", async () => {
  await inWorld({}, async ({ voicebus, gateway }) => {
    const say = async (event: Record<string, unknown>) =>
      await voicebus.post({ callId: "rtc_w1", timestamp: new Date().toISOString(), ...event });
    const watch = await gateway.watch("agent:main:voice:12015550142");
    const seen = watch.until("a word for those who watch");
    await say({ eventType: "call_started", phoneNumber: "+12015550142" });
    const content = "a word for those who watch";
    await say({ eventType: "transcript_update", data: { speaker: "user", content } });
    await seen;
    watch.close();
  });
});

test("a wrong password is said in one sentence, and a right one is taken without a restart", async () => {
  await inWorld({}, async (world) => {
    const { gateway, dir, voicebus } = world;
    const file = join(dir, "password");
    writeFileSync(file, "wrong");
    gateway.configure({ nats: { url: voicebus.nats, passwordFile: file } });
    const bad = await reached("the problem is told", async () => {
      const { problem } = await status(world);
      return problem?.includes("does not know the user") && problem;
    });
    assert.match(bad, /^NATS at nats:\/\/127\.0\.0\.1:\d+ does not know the user "plugin"/);
    assert.equal((await gateway.http("/voicebus/status")).status, 503);

    const right = { url: voicebus.nats, passwordFile: voicebus.credentials };
    gateway.configure({ nats: { ...right, consumer: "other" } });
    await reached("a consumer that is not ours is told", async () =>
      (await status(world)).problem?.includes("may not use the consumer other of VOICE_EVENT"),
    );

    gateway.configure({ nats: right });
    await reached("it works again", async () => (await status(world)).state === "working");
  });
});

test("settings are taken while the gateway runs", async () => {
  await inWorld(
    { plugin: { transcript: "off", memory: { notes: "off" }, notify: "off" } },
    async (world) => {
      const { gateway, voicebus } = world;
      await voicebus.simulate("off", ["--calls", "2", "--rate", "0", "--seed", "4"]);
      await callsCompleted(world, 2);
      await settled(world);
      assert.equal((await status(world)).counts.written, 0);

      const pid = gateway.pid;
      gateway.configure({ transcript: "live", memory: { notes: "beginning" } });
      await reached("the plugin has begun anew", async () => {
        const { output } = await gateway.cli(["voicebus", "status"]);
        return output.includes("working") && gateway.log().split("listening to calls").length > 2;
      });
      await voicebus.simulate("live", ["--calls", "2", "--rate", "0", "--seed", "5"]);
      await callsCompleted(world, 4);
      await settled(world);
      assert.equal((await status(world)).counts.written, 16);
      assert.equal(
        readdirSync(join(gateway.workspace, "memory")).filter((name) => name.includes("-call-"))
          .length,
        2,
      );
      assert.equal(gateway.pid, pid);
    },
  );
});

test("NATS may be away when the gateway starts", async () => {
  await inWorld({}, async (world) => {
    const { gateway, voicebus } = world;
    await gateway.stop();
    await voicebus.down();
    await gateway.up();
    const { problem } = await reached("the problem is told", async () => {
      const now = await status(world);
      return now.state === "waiting" && now;
    });
    assert.match(problem ?? "", /cannot be reached/);
    await voicebus.up();
    await reached("it works", async () => (await status(world)).state === "working");
  });
});
