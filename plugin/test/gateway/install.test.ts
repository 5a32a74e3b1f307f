import { strict as assert } from "node:assert";
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { reached } from "../lab/process.ts";
import { inWorld } from "../lab/world.ts";

const PLUGIN = join(import.meta.dirname, "../..");

test("the packed plugin installs, needs nothing beside itself, and runs without a load path", async () => {
  await inWorld({ installed: true }, async ({ dir, gateway }) => {
    execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", dir], {
      cwd: PLUGIN,
    });
    const pack = readdirSync(dir).find((name) => name.endsWith(".tgz")) ?? "";
    const installed = await gateway.cli([
      ...["plugins", "install", "--force", "--accept-capabilities", join(dir, pack)],
    ]);
    assert.equal(installed.code, 0, installed.output);
    await gateway.up();
    await reached("the plugin works", async () => {
      const { state } = await gateway.rpc<{ state: string }>("voicebus.status");
      return state === "working";
    });
  });
});
