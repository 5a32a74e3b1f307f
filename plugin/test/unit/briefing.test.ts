import { strict as assert } from "node:assert";
import { test } from "node:test";
import type { PastCall, Requests } from "../../src/bus/requests.ts";
import { Briefing } from "../../src/calls/briefing.ts";
import type { Gateway } from "../../src/gateway.ts";
import { readSettings } from "../../src/settings.ts";
import { call, ended, event } from "./fixtures.ts";

const quiet = { info() {}, warn() {}, error() {} };
const SCOPE = { agentId: "main", sessionKey: "agent:main:voice:12015550142" };
const PAST: PastCall = {
  ...{ id: "rtc_0", direction: "inbound", state: "ended", at: "2026-11-20T08:00:00Z" },
  ...{ seconds: 90, end_reason: "hangup-user", session: "agent:main:main" },
};

/** What a call is told that begins now, by a gateway that knows this. */
async function told(settings: object, knows: { tasks?: string[]; calls?: PastCall[] }) {
  type Stored = { subject: string; body: { context: { text: string } } };
  const stored = Promise.withResolvers<Stored>();
  const gateway = {
    identity: () => ({ name: "Nia" }),
    workspace: () => "/nowhere",
    recent: async () => [{ role: "user", text: "The appointment is on Tuesday." }],
    openTasks: async () => {
      if (!knows.tasks) throw new Error("no tasks here");
      return knows.tasks;
    },
  } as unknown as Gateway;
  const requests = {
    callsWith: async (number: string) => {
      assert.equal(number, "+12015550142");
      return knows.calls ?? [];
    },
    store: async (subject: string, _id: string, body: { context: { text: string } }) => {
      stored.resolve({ subject, body });
    },
  } as unknown as Requests;
  const briefing = new Briefing(
    gateway,
    readSettings({ context: settings }, {}),
    quiet,
    () => requests,
  );
  const began = event(1, "state.initiated", { call: call() }, { at: Date.now() });
  await briefing.hear(began, SCOPE);
  const { subject, body } = await stored.promise;
  await briefing.hear(event(2, "state.ended", { call: ended() }), SCOPE);
  briefing.stop();
  assert.equal(subject, "voice.cmd.context.rtc_1");
  return body.context.text;
}

test("a call is told who speaks, what was said, earlier calls and what is being worked on", async () => {
  const text = await told({}, { tasks: ["Book a table\nfor two"], calls: [PAST] });
  assert.equal(
    text,
    [
      "## Who you are\nYou speak for the assistant Nia.",
      "## Conversation so far\nuser: The appointment is on Tuesday.",
      "## Earlier calls with this person\n- 2026-11-20T08:00:00Z, inbound, lasted 1 min 30 s, hangup-user",
      "## What is being worked on\n- Book a table for two",
    ].join("\n\n"),
  );
});

test("what may not leave is not told, and what cannot be had is left out", async () => {
  const text = await told({ include: ["identity", "tasks"] }, { calls: [PAST] });
  assert.equal(text, "## Who you are\nYou speak for the assistant Nia.");
});
