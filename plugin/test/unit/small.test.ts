import { strict as assert } from "node:assert";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isTooOld } from "../../src/bus/connection.ts";
import { conversationOf, readEvent, UnreadableEvent } from "../../src/bus/event.ts";
import { intentOf } from "../../src/bus/requests.ts";
import { eventsOf, isId } from "../../src/bus/subjects.ts";
import { conversationText, earlierCalls, fitted, tokensOf } from "../../src/calls/context.ts";
import { noteOf } from "../../src/calls/note.ts";
import { duration, shownNumber } from "../../src/calls/words.ts";
import { whyNot } from "../../src/dialling.ts";
import { Lanes } from "../../src/lanes.ts";
import { agentOf } from "../../src/session-key.ts";
import { readSettings, secretsOf } from "../../src/settings.ts";
import { tell } from "../../src/tools/call.ts";
import { said } from "../../src/tools/running.ts";
import { call, ended } from "./fixtures.ts";

test("an event that cannot be read says why, and nothing of what was said", () => {
  const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  assert.throws(() => readEvent(new TextEncoder().encode("{")), UnreadableEvent);
  assert.throws(
    () => readEvent(bytes({ dataschema: "urn:voicebus:event:9", data: "secret" })),
    /its schema is "urn:voicebus:event:9"/,
  );
});

test("lanes keep order within a call, and calls do not wait for each other", async () => {
  const done: string[] = [];
  const gates = new Map<string, () => void>();
  const lanes = new Lanes<string>(2, async (key, batch) => {
    if (key === "slow") await new Promise<void>((resolve) => gates.set(batch.join(""), resolve));
    done.push(`${key}:${batch.join("")}`);
  });
  for (const item of ["a", "b", "c"]) lanes.add("slow", item);
  lanes.add("fast", "x");
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(done, ["fast:x"]);
  gates.get("ab")?.();
  await new Promise((resolve) => setImmediate(resolve));
  gates.get("c")?.();
  await lanes.idle();
  assert.deepEqual(done, ["fast:x", "slow:ab", "slow:c"]);
});

test("the two ids of one call name the same conversation", () => {
  assert.equal(conversationOf(call({ id: "CA1" })), "CA1");
  assert.equal(conversationOf(call({ id: "rtc_1", other_leg: "CA1" })), "CA1");
  assert.equal(conversationOf(call({ id: "CA1", other_leg: "rtc_1" })), "CA1");
  assert.equal(conversationOf(call({ id: "CA1", intent: "i-1" })), "i-1");
});

test("only ids go into subjects", () => {
  assert.equal(eventsOf("rtc_1"), "voice.event.rtc_1.>");
  for (const bad of ["", "a.b", "*", ">", "a b", "a\n"]) {
    assert.equal(isId(bad), false);
    assert.throws(() => eventsOf(bad));
  }
});

test("a session key that would harm the gateway's database has no agent", () => {
  assert.equal(agentOf("agent:main:voice:1"), "main");
  for (const bad of ["voice:1", "agent::voice", "agent:main:", "agent:main:a\nb", "agent:Main:x"]) {
    assert.equal(agentOf(bad), undefined, bad);
  }
});

test("numbers are masked and lengths are readable", () => {
  assert.equal(shownNumber("+12015550123", "masked"), "+12…23");
  assert.equal(shownNumber(null, "full"), "a withheld number");
  assert.deepEqual([0, 59_400, 90_000, 3_600_000, 3_900_000].map(duration), [
    "0 s",
    "59 s",
    "1 min 30 s",
    "1 h",
    "1 h 5 min",
  ]);
});

test("a dial is refused until it is allowed, listed and within the limits", () => {
  const rules = {
    allowed: true,
    numbers: ["+1201*", "+4312345678"],
    perHour: 2,
    perDay: 3,
    perNumberPerDay: 2,
    deadlineSeconds: 120,
  };
  const now = 1_000_000_000;
  const ask = (number: string, ago: number[] = [], change: object = {}) =>
    whyNot(
      number,
      ago.map((minutes) => ({ number, at: now - minutes * 60_000 })),
      now,
      { ...rules, ...change },
    );
  assert.equal(ask("+12015550123"), undefined);
  assert.equal(ask("+4312345678"), undefined);
  assert.match(ask("+12015550123", [], { allowed: false }) ?? "", /a person must set/);
  assert.match(ask("+12125550123") ?? "", /not in the list/);
  assert.match(ask("+12015550123", [], { numbers: [] }) ?? "", /not in the list/);
  assert.match(ask("2015550123") ?? "", /no phone number/);
  assert.match(ask("+12015550123", [10, 20], { perNumberPerDay: 9 }) ?? "", /2 calls in an hour/);
  assert.match(ask("+12015550123", [70, 80, 90], { perNumberPerDay: 9 }) ?? "", /3 calls in a day/);
  assert.match(ask("+12015550123", [70, 80]) ?? "", /called 2 times in a day/);
});

test("the same tool call has the same intent, another one another", () => {
  assert.equal(intentOf("s", "t"), intentOf("s", "t"));
  assert.notEqual(intentOf("s", "t"), intentOf("s", "u"));
  assert.ok(isId(intentOf("s", "t")));
});

test("each outcome of words to say is a sentence that an agent can act on", () => {
  const command = { id: "i", verb: "say", session: "agent:main:main", call: "CA1" };
  const told = (status: string, reason?: string) =>
    said({ ...command, status, ...(reason ? { reason } : {}) }, "CA1").text;
  assert.equal(told("confirmed"), "It is being said.");
  assert.equal(told("refused", "the call is over"), "Not said: refused because the call is over.");
  assert.match(told("expired"), /^Not said: it could not be said in time/);
  assert.match(told("unknown"), /^It is not known whether it was said\. Look with voice_calls/);
  assert.match(said(undefined, "CA1").text, /^It is queued/);
});

test("each outcome of a dial is a sentence that an agent can act on", () => {
  const command = { id: "i", verb: "dial", session: "agent:main:main", call: "CA1" };
  const of = (status: string) => tell({ ...command, status, reason: "of x" }, "i", "+12…23").text;
  assert.match(of("confirmed"), /is placed \(call CA1\)/);
  assert.match(of("refused"), /^Not called: refused because of x\.$/);
  assert.match(of("unknown"), /Do not dial again; ask a person/);
  assert.match(of("expired"), /deadline passed/);
  assert.match(tell(undefined, "i", "+12…23").text, /is queued/);
});

test("a note quotes what was said, and no line of it escapes the quotation", () => {
  const settings = readSettings({ memory: { notes: "beginning" } }, {});
  const utterances = Array.from({ length: 8 }, (_, index) => ({
    speaker: "user" as const,
    text: `${index}\n# Heading`,
    sequence: index + 1,
  }));
  const conversation = { revision: 1, utterances, holes: [], left_out: 0 };
  const note = noteOf(
    ended({ utterances: 8 }),
    conversation,
    Date.parse("2026-11-22T08:00:00Z"),
    settings,
  );
  assert.match(note, /^# Phone call 2026-11-22 08:00:00 UTC\n/);
  assert.doesNotMatch(note, /12015550142/);
  assert.doesNotMatch(note, /^# Heading/m);
  assert.match(note, /2 more utterances are in the session/);
});

test("a context keeps within its budget, and the newest turns", () => {
  const text = fitted(
    [
      { title: "A", text: "x".repeat(100) },
      { title: "Empty", text: " " },
      { title: "B", text: "y".repeat(5000) },
    ],
    100,
  );
  assert.ok(tokensOf(text) <= 100);
  assert.match(text, /^## A\nx{100}\n\n## B\ny+ …$/);
  const turns = [1, 2, 3].map((n) => ({ role: "user", text: `turn ${n}` }));
  assert.equal(conversationText(turns, 30), "user: turn 2\nuser: turn 3");
});

test("earlier calls are told when they are over, without who it was with", () => {
  const past = {
    ...{ id: "rtc_1", direction: "inbound" as const, state: "ended", at: "2026-11-22T08:00:00Z" },
    ...{ seconds: 90, end_reason: "hangup-user", session: "agent:main:voice:12015550142" },
  };
  const told = earlierCalls([
    { ...past, id: "rtc_2", state: "active", seconds: null, end_reason: null },
    past,
    { ...past, direction: "outbound", seconds: null, end_reason: "busy" },
  ]);
  assert.equal(
    told,
    "- 2026-11-22T08:00:00Z, inbound, lasted 1 min 30 s, hangup-user\n" +
      "- 2026-11-22T08:00:00Z, outbound, busy",
  );
});

test("the password comes from the environment or a file, and errors name what to do", () => {
  const dir = mkdtempSync(join(tmpdir(), "secrets-"));
  const path = join(dir, "credentials.json");
  writeFileSync(path, JSON.stringify({ plugin: "vb1" }));
  const nats = (change: object) => readSettings({ nats: change }, {}).nats;
  assert.equal(secretsOf(nats({ passwordFile: path }), {}).natsPassword(), "vb1");
  assert.equal(secretsOf(nats({}), { VOICEBUS_NATS_PASSWORD: "vb2" }).natsPassword(), "vb2");
  assert.throws(() => secretsOf(nats({}), {}).natsPassword(), /set nats\.passwordFile/);
  assert.throws(
    () => secretsOf(nats({ passwordFile: path, user: "other" }), {}).natsPassword(),
    /has no password of the user "other"/,
  );
  assert.throws(() => readSettings({ timeZone: "Mars" }, {}), /no time zone/);
  assert.throws(
    () => secretsOf(nats({ nkeyFile: path }), {}).natsSeed(),
    /holds no seed of a user/,
  );
  assert.deepEqual(["2.9.25", "2.11.4", "2.12.0", "2.15.1", "3.0.0"].map(isTooOld), [
    ...[true, true, false, false, false],
  ]);
});

test("the defaults are those that the schema tells people", async () => {
  const { default: manifest } = await import("../../openclaw.plugin.json", {
    with: { type: "json" },
  });
  const told = (
    schema: { default?: unknown; properties?: object },
    path: string[],
  ): [string[], unknown][] =>
    "default" in schema
      ? [[path, schema.default]]
      : Object.entries(schema.properties ?? {}).flatMap(([name, inner]) =>
          told(inner, [...path, name]),
        );
  const settings = readSettings({}, {});
  for (const [path, value] of told(manifest.configSchema, [])) {
    const found = path.reduce<unknown>(
      (at, name) => (at as Record<string, unknown>)[name],
      settings,
    );
    assert.deepEqual(found, value, path.join("."));
  }
});
