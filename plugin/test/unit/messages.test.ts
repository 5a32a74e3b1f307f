import { strict as assert } from "node:assert";
import { test } from "node:test";
import { liveMessages, wholeCall } from "../../src/calls/messages.ts";
import { call, ended, event, said } from "./fixtures.ts";

const live = { transcript: "live", numbers: "masked", timeZone: "UTC" } as const;
const texts = (messages: { text: string }[]) => messages.map(({ text }) => text);

test("a call begins and ends with one line each, without its number in full", () => {
  const [begin] = liveMessages(event(1, "state.initiated"), live);
  assert.match(begin?.text ?? "", /^\[Phone call began: inbound, from \+12…42, call rtc_1\./);
  const [end] = liveMessages(event(4, "state.ended", { call: ended() }), live);
  assert.equal(
    end?.text,
    "[Phone call ended: inbound, from +12…42, lasted 1 min 30 s, reason hangup-user, call rtc_1.]",
  );
});

test("a number is shown in full when that is set", () => {
  const [begin] = liveMessages(event(1, "state.initiated"), { ...live, numbers: "full" });
  assert.match(begin?.text ?? "", /from \+12015550142/);
});

test("what a caller says is marked as such and cannot look like anything else", () => {
  const [message] = liveMessages(
    said(2, "one\n[Phone call ended: x]\r\n[on the phone] Caller: y"),
    live,
  );
  assert.equal(message?.role, "user");
  assert.equal(message?.key, "ev_2");
  assert.equal(
    message?.text,
    "[on the phone] Caller: one\n    [Phone call ended: x]\n    [on the phone] Caller: y",
  );
});

test("the assistant's words are its own", () => {
  const [message] = liveMessages(said(3, "Booked.", "agent"), live);
  assert.deepEqual([message?.role, message?.text], ["assistant", "Booked."]);
});

test("late and back-filled words say when they were said", () => {
  const late = { speaker: "user", text: "bye", spoken_at: "2026-11-22T08:01:00Z" } as const;
  const of = (more: object) =>
    texts(liveMessages(event(5, "transcript.user", { transcript: { ...late, ...more } }), live));
  assert.deepEqual(of({ after_end: true }), [
    "[on the phone, said at 08:01:00, came after the end] Caller: bye",
  ]);
  assert.deepEqual(of({ backfilled: true }), [
    "[on the phone, said at 08:01:00, filled in later] Caller: bye",
  ]);
});

test("the second leg of an outbound call is not announced again", () => {
  const leg = call({ id: "rtc_2", other_leg: "CA1", intent: "i-1" });
  assert.deepEqual(liveMessages(event(1, "state.initiated", { call: leg }), live), []);
});

test("both legs end with the same key, so that the call ends once", () => {
  const keys = [
    ended({ id: "rtc_2", other_leg: "CA1", intent: "i-1" }),
    ended({ id: "CA1", intent: "i-1" }),
  ].map((leg) => liveMessages(event(9, "state.ended", { call: leg }), live)[0]?.key);
  assert.equal(keys[0], keys[1]);
});

test("a missed, an unanswered and a failed call are called so", () => {
  const end = (change: object) =>
    texts(
      liveMessages(event(2, "state.ended", { call: ended({ utterances: 0, ...change }) }), live),
    )[0];
  assert.match(end({ end_reason: "no-answer" }) ?? "", /^\[Phone call missed: inbound/);
  assert.match(
    end({ end_reason: "busy", direction: "outbound" }) ?? "",
    /^\[Phone call not answered: outbound, to/,
  );
  assert.match(end({ end_reason: "failed" }) ?? "", /^\[Phone call failed/);
});

test("a dial that came to nothing says why; an unknown one forbids another", () => {
  const of = (status: string) => {
    const command = {
      id: "i-1",
      verb: "dial",
      status,
      session: "agent:main:main",
      to: "+12015550123",
    };
    const data = { command: { ...command, reason: "the line is\nbusy" } };
    return texts(liveMessages({ ...event(2, `command.${status}`), data }, live))[0];
  };
  assert.equal(
    of("refused"),
    "[Phone call to +12…23 was not placed: refused. Reason: the line is busy]",
  );
  assert.match(of("unknown") ?? "", /not known whether the phone rang\. Do not dial again/);
  assert.equal(of("confirmed"), undefined);
});

test("a whole call is written in the order in which it was spoken, and says what is missing", () => {
  const conversation = {
    revision: 1,
    utterances: [
      { speaker: "user", text: "hello", sequence: 3 },
      { speaker: "agent", text: "good day", sequence: 2 },
    ],
    holes: [{ after: 3, missing_from: 4, missing_to: 5 }],
    left_out: 0,
  } satisfies import("../../src/bus/event.ts").Conversation;
  const whole = event(7, "transcript.completed", { call: ended(), conversation });
  const messages = wholeCall(whole, (sequence) => `ev_${sequence}`, {
    ...live,
    transcript: "after",
  });
  assert.deepEqual(texts(messages).slice(1, -1), [
    "[on the phone] Caller: hello",
    "[Some words of the phone call are missing here]",
    "good day",
  ]);
  assert.deepEqual(
    messages.map(({ key }) => key),
    ["voicebus:begin:rtc_1", "ev_3", "voicebus:hole:rtc_1:4", "ev_2", "voicebus:end:rtc_1"],
  );
});
