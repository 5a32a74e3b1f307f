import { strict as assert } from "node:assert";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { VoiceEvent } from "../../src/bus/event.ts";
import { Scribe } from "../../src/calls/scribe.ts";
import type { Gateway, Message } from "../../src/gateway.ts";
import { Ledger } from "../../src/ledger.ts";
import { readSettings } from "../../src/settings.ts";
import { call, event, said } from "./fixtures.ts";

/** A scribe on a real ledger; sessions are lists, and the stream is one as well. */
function scribe(log: VoiceEvent[], setting: object = {}) {
  const sessions = new Map<string, Message[]>();
  const gateway = {
    broken: false,
    openSession: async () => "one",
    async append(scope: { sessionKey: string }, _id: string, messages: Message[]) {
      if (gateway.broken) throw new Error("the gateway is broken");
      const session = sessions.get(scope.sessionKey) ?? [];
      sessions.set(scope.sessionKey, session);
      for (const message of messages) {
        if (!session.some(({ key }) => key === message.key)) session.push(message);
      }
    },
  };
  const stored = log.map((one, index) => ({ event: one, position: index + 1 }));
  const ledger = new Ledger(join(mkdtempSync(join(tmpdir(), "ledger-")), "ledger.sqlite"));
  const quiet = { info() {}, warn() {}, error() {} };
  const it = new Scribe({
    gateway: gateway as unknown as Gateway,
    ledger,
    settings: readSettings(setting, {}),
    readLog: async (subject, from, upTo) =>
      stored.filter(
        (one) =>
          one.event.subject === subject && one.position >= from && one.event.sequence <= upTo,
      ),
    listeners: [],
    logger: quiet,
  });
  const words = (key = "agent:main:voice:12015550142") =>
    (sessions.get(key) ?? []).map(({ text }) => text.split(": ").at(-1));
  const deliver = async (...sequences: number[]) =>
    await it.handle(
      "rtc_1",
      sequences.flatMap((sequence) => stored[sequence - 1] ?? []),
    );
  return { it, gateway, ledger, words, deliver };
}

const CALL = [said(1, "a"), said(2, "b"), said(3, "c"), said(4, "d")];
const spoken = (words: (string | undefined)[]) => words.filter((word) => (word?.length ?? 9) === 1);

test("what is missing before an event is fetched, so that order holds", async () => {
  const { deliver, words, it } = scribe(CALL);
  await deliver(1);
  await deliver(4);
  assert.deepEqual(spoken(words()), ["a", "b", "c", "d"]);
  await deliver(2, 3);
  assert.deepEqual(spoken(words()), ["a", "b", "c", "d"]);
  assert.equal(it.counts.refetched, 2);
  assert.equal(it.counts.repeated, 2);
});

test("a call that is joined in its middle is written from its beginning", async () => {
  const { deliver, words } = scribe(CALL);
  await deliver(3);
  assert.deepEqual(spoken(words()), ["a", "b", "c"]);
});

test("a copy of the stream that lags behind is waited for", async () => {
  const { it, ledger } = scribe([]);
  await assert.rejects(it.handle("rtc_1", [{ event: said(3, "c"), position: 3 }]));
  assert.equal(ledger.progress("rtc_1").sequence, 0);
});

test("nothing counts as written when the gateway has not taken it", async () => {
  const { deliver, words, gateway, ledger, it } = scribe(CALL);
  gateway.broken = true;
  await assert.rejects(deliver(1, 2));
  assert.equal(ledger.progress("rtc_1").sequence, 0);
  assert.equal(it.failing, 1);
  gateway.broken = false;
  await deliver(1, 2);
  assert.deepEqual(spoken(words()), ["a", "b"]);
  assert.equal(it.failing, 0);
});

test("a call that moves takes its words along", async () => {
  const to = "agent:main:main";
  const moved = event(
    3,
    "session.rebound",
    { session: { from: "agent:main:voice:12015550142", to } },
    { sessionKey: to },
  );
  const { deliver, words } = scribe([
    said(1, "a"),
    said(2, "b"),
    moved,
    { ...said(4, "d"), sessionKey: to },
  ]);
  await deliver(1, 2);
  await deliver(3, 4);
  assert.deepEqual(spoken(words(to)), ["a", "b", "d"]);
  assert.match(words().at(-1) ?? "", /belongs to another session/);
});

test("a session key that OpenClaw cannot have reaches no session", async () => {
  const strange = { ...said(1, "a"), sessionKey: "agent:main:x\ny" };
  const { deliver, ledger } = scribe([strange]);
  await deliver(1);
  assert.equal(ledger.progress("rtc_1").sequence, 1);
});

test("nothing is written when that is set", async () => {
  const { deliver, words } = scribe([event(1, "state.initiated", { call: call() }), said(2, "b")], {
    transcript: "off",
  });
  await deliver(1, 2);
  assert.deepEqual(words(), []);
});
