import type { Call, EventData, VoiceEvent } from "../../src/bus/event.ts";

/** A call from +12015550142, as the router tells it. */
export function call(change: Partial<Call> = {}): Call {
  return {
    id: "rtc_1",
    state: "active",
    direction: "inbound",
    number: "+12015550142",
    session: "agent:main:voice:12015550142",
    session_rule: "scope",
    initiated_at: "2026-11-22T08:00:00Z",
    answered_at: null,
    ended_at: null,
    end_reason: null,
    utterances: 0,
    ...change,
  };
}

export const ended = (change: Partial<Call> = {}) =>
  call({
    state: "ended",
    ended_at: "2026-11-22T08:01:30Z",
    end_reason: "hangup-user",
    utterances: 2,
    ...change,
  });

export function event(
  sequence: number,
  what: string,
  data: EventData = {},
  change: Partial<VoiceEvent> = {},
): VoiceEvent {
  return {
    id: `ev_${sequence}`,
    what,
    subject: "rtc_1",
    at: Date.parse("2026-11-22T08:00:00Z") + sequence * 1000,
    sequence,
    sessionKey: "agent:main:voice:12015550142",
    data: { call: call(), ...data },
    ...change,
  };
}

export const said = (sequence: number, text: string, speaker: "user" | "agent" = "user") =>
  event(sequence, `transcript.${speaker}`, { transcript: { speaker, text } });
