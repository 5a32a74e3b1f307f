import type { Stored } from "../bus/log.ts";
import type { Requests } from "../bus/requests.ts";
import type { Ledger } from "../ledger.ts";
import type { Settings } from "../settings.ts";

/** What a tool works with. Throws a sentence when voicebus cannot be reached. */
export interface Bench {
  settings: Settings;
  ledger: Ledger;
  requests(): Requests;
  readLog(subject: string): Promise<Stored[]>;
}

/** Who asks. */
export interface Asker {
  sessionKey: string | undefined;
  /** The same for each repeat of the same tool call. */
  toolCallId: string;
}

/** What an agent is answered: a sentence it can act on, and the same for programs. */
export interface Answer {
  text: string;
  details: Record<string, unknown>;
}

export interface Tool {
  name: string;
  description: string;
  parameters: Record<string, unknown>;
  run(bench: Bench, asker: Asker, params: Record<string, unknown>): Promise<Answer>;
}

/** A parameter that is a text, or `undefined`. */
export function textOf(params: Record<string, unknown>, name: string): string | undefined {
  const value = params[name];
  return typeof value === "string" && value.trim() !== "" ? value.trim() : undefined;
}

/** A phone number as people write it, in international form. */
export function numberOf(params: Record<string, unknown>, name: string): string {
  return (textOf(params, name) ?? "").replaceAll(/[\s().\-/]/g, "").replace(/^00/, "+");
}
