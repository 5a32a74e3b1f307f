/** How calls are put into words, for people and for agents. Pure. */

import { type Call, type Command, isOutbound, type Utterance } from "../bus/event.ts";

/** `+12…14`: enough to tell two callers apart, too little to call one. */
export function shownNumber(number: string | null | undefined, how: "masked" | "full"): string {
  if (!number) return "a withheld number";
  if (how === "full" || number.length < 7) return number;
  return `${number.slice(0, 3)}…${number.slice(-2)}`;
}

/** `inbound, from +12…14`. */
export function parties(call: Call, how: "masked" | "full"): string {
  const number = shownNumber(call.number, how);
  return isOutbound(call) ? `outbound, to ${number}` : `inbound, from ${number}`;
}

/** The call's length in milliseconds, from the answer if that is known. */
export function lengthOf(call: Call): number | undefined {
  const from = call.answered_at ?? call.initiated_at;
  if (!from || !call.ended_at) return undefined;
  return Math.max(0, Date.parse(call.ended_at) - Date.parse(from));
}

/** `1 min 30 s`. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** How a call came out. */
export type Outcome = "ended" | "missed" | "unanswered" | "failed";

const NOBODY = new Set(["no-answer", "busy", "canceled", "timeout", "voicemail"]);

/** Whether people spoke, and if not, why not. */
export function outcomeOf(call: Call): Outcome {
  const reason = call.end_reason ?? "";
  if (call.utterances > 0 || call.answered_at) return "ended";
  if (reason === "failed" || reason === "error") return "failed";
  if (NOBODY.has(reason)) return isOutbound(call) ? "unanswered" : "missed";
  return "ended";
}

/** `ended`: one line on how a call came out, without anything that was said. */
export function endOf(call: Call, how: "masked" | "full"): string {
  const length = lengthOf(call);
  const outcome = outcomeOf(call);
  const said = {
    ended: "Phone call ended",
    missed: "Phone call missed",
    unanswered: "Phone call not answered",
    failed: "Phone call failed",
  }[outcome];
  const parts = [
    parties(call, how),
    ...(outcome === "ended" && length !== undefined ? [`lasted ${duration(length)}`] : []),
    ...(call.end_reason ? [`reason ${call.end_reason}`] : []),
    `call ${call.id}`,
  ];
  return `${said}: ${parts.join(", ")}.`;
}

/** One line on a dial that came to nothing; `undefined` for one that did not. */
export function commandEnd(command: Command, how: "masked" | "full"): string | undefined {
  if (command.verb !== "dial") return undefined;
  const whom = `Phone call to ${shownNumber(command.to, how)}`;
  // The reason comes from voicebus itself or the call server; it is cut, because it is told an agent.
  const why = command.reason ? ` Reason: ${oneLine(command.reason).slice(0, 200)}` : "";
  switch (command.status) {
    case "refused":
      return `${whom} was not placed: refused.${why}`;
    case "expired":
      return `${whom} was not placed: its deadline passed before it could be dialled.`;
    case "cancelled":
      return `${whom} was not placed: it was taken back.`;
    case "unknown":
      return `${whom}: it is not known whether the phone rang. Do not dial again by yourself; ask a person.${why}`;
    default:
      return undefined;
  }
}

/** `Caller`: who speaks. */
export function speakerOf(utterance: Pick<Utterance, "speaker">, call: Call): string {
  if (utterance.speaker === "agent") return "Assistant";
  if (utterance.speaker === "system") return "Phone system";
  return isOutbound(call) ? "Called person" : "Caller";
}

/** Keeps what was said from looking like a line of somebody else. */
export function indented(text: string): string {
  return text.replaceAll(/\r\n?|[\n\u2028\u2029]/g, "\n    ");
}

/** A text without line breaks and control characters. */
export function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, " ").trim();
}

/** `12:03:05`. */
export function clock(at: number, timeZone: string): string {
  return new Intl.DateTimeFormat("en-GB", {
    timeZone,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  }).format(at);
}

/** `2026-11-22`. */
export function day(at: number, timeZone: string): string {
  return new Intl.DateTimeFormat("en-CA", {
    timeZone,
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
  }).format(at);
}
