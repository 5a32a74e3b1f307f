/**
 * An event of the public feed, as voicebus writes it: CloudEvents 1.0 in JSON. Only what this
 * plugin reads is named here; everything else is let through.
 */

export interface VoiceEvent {
  /** The same event always has the same id. */
  id: string;
  /** `state.ended`, `transcript.user`, …: the type without `openclaw.voice.`. */
  what: string;
  /** The call; for `command.*` the command. */
  subject: string;
  /** When it happened, in milliseconds. */
  at: number;
  /** Number within its subject, from 1, without a hole. */
  sequence: number;
  /** The OpenClaw session it belongs to. */
  sessionKey: string;
  data: EventData;
}

export interface EventData {
  transcript?: Utterance;
  conversation?: Conversation;
  session?: { from: string; to: string };
  error?: { code: string; message: string; letter?: number };
  call?: Call;
  command?: Command;
}

export interface Utterance {
  speaker: "user" | "agent" | "system";
  text: string;
  spoken_at?: string;
  after_end?: boolean;
  backfilled?: boolean;
}

export interface Conversation {
  revision: number;
  utterances: (Utterance & { sequence: number })[];
  holes: { after?: number; missing_from: number; missing_to: number }[];
  left_out: number;
}

export interface Call {
  id: string;
  state: string;
  direction: "inbound" | "outbound" | null;
  number: string | null;
  session: string;
  session_rule: string;
  intent?: string;
  other_leg?: string;
  initiated_at: string | null;
  answered_at: string | null;
  ended_at: string | null;
  end_reason: string | null;
  utterances: number;
}

export interface Command {
  id: string;
  verb: string;
  status: string;
  session: string;
  to?: string;
  call?: string;
  code?: string;
  reason?: string;
}

const TYPE_PREFIX = "openclaw.voice.";
const SCHEMA = "urn:voicebus:event:1";

/** Why an event cannot be read. The message names what is wrong, never what was said. */
export class UnreadableEvent extends Error {}

/** Reads an event of the feed. */
export function readEvent(bytes: Uint8Array): VoiceEvent {
  let raw: Record<string, unknown>;
  try {
    raw = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new UnreadableEvent("it is not JSON");
  }
  if (raw?.["dataschema"] !== SCHEMA) {
    throw new UnreadableEvent(
      `its schema is ${JSON.stringify(raw?.["dataschema"])}; this plugin reads ${SCHEMA}`,
    );
  }
  const type = text(raw, "type");
  const at = Date.parse(text(raw, "time"));
  const sequence = raw["sequence"];
  const data = raw["data"];
  if (!type.startsWith(TYPE_PREFIX)) throw new UnreadableEvent(`its type is ${type}`);
  if (Number.isNaN(at)) throw new UnreadableEvent("its time is none");
  if (typeof sequence !== "number" || !Number.isSafeInteger(sequence) || sequence < 1) {
    throw new UnreadableEvent("its sequence is no number");
  }
  if (typeof data !== "object" || data === null) throw new UnreadableEvent("it has no data");
  return {
    id: text(raw, "id"),
    what: type.slice(TYPE_PREFIX.length),
    subject: text(raw, "subject"),
    at,
    sequence,
    sessionKey: text(raw, "sessionkey"),
    data: data as EventData,
  };
}

function text(raw: Record<string, unknown>, name: string): string {
  const value = raw[name];
  if (typeof value !== "string" || value === "") throw new UnreadableEvent(`it has no ${name}`);
  return value;
}

/**
 * Names the telephone call that an event is about. One outbound call has two ids (the carrier's
 * leg and the assistant's), which must be announced once: they share the wish that made them, or
 * name each other.
 */
export function conversationOf(call: Call): string {
  if (call.intent) return call.intent;
  return call.other_leg && call.other_leg < call.id ? call.other_leg : call.id;
}

/** Whether we called. The second leg of an outbound call arrives as inbound. */
export function isOutbound(call: Call): boolean {
  return call.direction === "outbound" || call.intent !== undefined || call.other_leg !== undefined;
}
