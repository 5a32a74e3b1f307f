import { strict as assert } from "node:assert";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Notes } from "../../src/calls/notes.ts";
import { Notices } from "../../src/calls/notices.ts";
import type { Gateway } from "../../src/gateway.ts";
import { Ledger } from "../../src/ledger.ts";
import { readSettings } from "../../src/settings.ts";
import { ended, event } from "./fixtures.ts";

const quiet = { info() {}, warn() {}, error() {} };
const SCOPE = { agentId: "main", sessionKey: "agent:main:voice:12015550142" };
const directory = () => mkdtempSync(join(tmpdir(), "once-"));

/** A gateway's queue of system events, which a turn empties and a restart forgets. */
function queue() {
  const waiting = new Map<string, string>();
  const gateway = {
    waiting,
    openSession: async () => "one",
    isWaiting: (_: unknown, key: string) => waiting.has(key),
    notify(to: { sessionKey: string }, text: string, key: string) {
      waiting.set(key, `${to.sessionKey} ${text}`);
    },
  };
  return gateway;
}

function completed(id: string, words = ["hello"]) {
  const utterances = words.map((text, index) => ({
    speaker: "user" as const,
    text,
    sequence: index + 2,
  }));
  const call = ended({ id, utterances: words.length });
  const conversation = { revision: 1, utterances, holes: [], left_out: 0 };
  return event(9, "transcript.completed", { call, conversation }, { at: Date.now(), subject: id });
}

test("a notice that no turn has taken is given again after a restart, and a taken one is not", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const ledger = new Ledger(join(directory(), "ledger.sqlite"));
  const gateway = queue();
  const begin = (settings: object = {}) => {
    const notices = new Notices(
      gateway as unknown as Gateway,
      ledger,
      readSettings(settings, {}),
      quiet,
    );
    notices.start();
    return notices;
  };
  const first = begin();
  await first.hear(completed("rtc_1"), SCOPE);
  assert.match([...gateway.waiting.values()][0] ?? "", /Phone call ended: inbound, from \+12…42/);
  await first.hear(completed("rtc_1"), SCOPE);
  assert.equal(gateway.waiting.size, 1);

  first.stop();
  gateway.waiting.clear();
  const second = begin();
  t.mock.timers.tick(2_000);
  assert.equal(gateway.waiting.size, 1, "given again");
  gateway.waiting.clear();
  t.mock.timers.tick(2_000);
  assert.equal(second.waiting, 0, "a turn has taken it");
  second.stop();
  begin();
  t.mock.timers.tick(2_000);
  assert.equal(gateway.waiting.size, 0);
});

test("more notices than the gateway keeps wait for their turn", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const gateway = queue();
  const ledger = new Ledger(join(directory(), "ledger.sqlite"));
  const settings = readSettings({ notify: "main" }, {});
  const notices = new Notices(gateway as unknown as Gateway, ledger, settings, quiet);
  notices.start();
  for (let call = 0; call < 15; call += 1) await notices.hear(completed(`rtc_${call}`), SCOPE);
  assert.equal(gateway.waiting.size, 10);
  assert.ok([...gateway.waiting.values()].every((text) => text.startsWith("agent:main:main ")));
  gateway.waiting.clear();
  t.mock.timers.tick(2_000);
  assert.equal(gateway.waiting.size, 5);
});

test("a note is written once, follows late words, and leaves alone what somebody has changed", async () => {
  const workspace = directory();
  const ledger = new Ledger(join(workspace, "ledger.sqlite"));
  const gateway = { workspace: () => workspace } as unknown as Gateway;
  const notes = new Notes(gateway, ledger, readSettings({ memory: { keepDays: 1 } }, {}), quiet);
  const path = join(workspace, "memory", "2026-11-22-call-rtc_1.md");
  const read = () => readFileSync(path, "utf8");
  await notes.hear(completed("rtc_1"), SCOPE);
  assert.deepEqual(readdirSync(join(workspace, "memory")), ["2026-11-22-call-rtc_1.md"]);
  await notes.hear(completed("rtc_1", ["hello", "late"]), SCOPE);
  assert.match(read(), /late/);
  writeFileSync(path, "mine now");
  await notes.hear(completed("rtc_1", ["hello", "late", "later"]), SCOPE);
  assert.equal(read(), "mine now");

  await notes.hear(completed("rtc_2"), SCOPE);
  assert.equal(await notes.sweep(Date.now()), 0);
  assert.equal(await notes.sweep(Date.now() + 2 * 24 * 3_600_000), 1);
  assert.deepEqual(readdirSync(join(workspace, "memory")), ["2026-11-22-call-rtc_1.md"]);
});
