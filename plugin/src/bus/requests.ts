import { createHash } from "node:crypto";
import { jetstream } from "@nats-io/jetstream";
import { headers, type NatsConnection, RequestError, TimeoutError } from "@nats-io/nats-core";
import { type Call, type Command, readEvent } from "./event.ts";
import { command, outcomesOf, service } from "./subjects.ts";

/** A call as the router's view shows it. */
export interface CallView extends Call {
  last_at: string;
  sequence: number;
}

/** An earlier call with somebody. */
export interface PastCall {
  id: string;
  direction: "inbound" | "outbound" | null;
  state: string;
  /** When it began. */
  at: string;
  /** How long people were connected; `null` when nobody picked up, and while it goes on. */
  seconds: number | null;
  end_reason: string | null;
  session: string;
}

/** Nobody offers a service: a role does not run, or voicebus is older than this plugin. */
export class NobodyAnswers extends Error {
  constructor(subject: string) {
    super(`nobody answers ${subject}; the router or egress of voicebus is down, or too old`);
  }
}

/** A service says no, in its own words. */
export class Refused extends Error {
  readonly code: number;
  constructor(code: number, text: string) {
    super(text);
    this.code = code;
  }
}

const ANSWER_TIMEOUT_MS = 3_000;
const FINAL = new Set(["confirmed", "refused", "cancelled", "expired", "unknown"]);

/** Asks voicebus, and gives it commands. */
export class Requests {
  readonly #connection: NatsConnection;

  constructor(connection: NatsConnection) {
    this.#connection = connection;
  }

  async calls(query: { active?: boolean; session?: string; limit?: number }): Promise<CallView[]> {
    return (await this.ask<{ calls: CallView[] }>(service.calls, query)).calls;
  }

  /** The latest calls with a number, newest first. */
  async callsWith(number: string, limit: number): Promise<PastCall[]> {
    return (await this.ask<{ calls: PastCall[] }>(service.callers, { number, limit })).calls;
  }

  /** What became of a command, if the router knows it. */
  async outcome(id: string): Promise<Command | undefined> {
    return await this.#found<Command>(service.command, { id });
  }

  async egress(): Promise<{ voice_server: string }> {
    return await this.ask(service.egress, {});
  }

  /**
   * Stores a command and waits for its outcome; `undefined` when the wait is over first. A command
   * with an id that was stored before is not carried out again: its outcome is asked for.
   */
  async command(
    verb: "dial" | "hangup" | "say" | "link" | "unlink",
    key: string,
    id: string,
    body: object,
    waitMs: number,
  ): Promise<Command | undefined> {
    const known = await this.outcome(id).catch(() => undefined);
    if (known && FINAL.has(known.status)) return known;
    const outcomes = this.#connection.subscribe(outcomesOf(id));
    try {
      await this.#connection.flush();
      if (!known) await this.store(command(verb, key), id, body);
      const timer = setTimeout(() => outcomes.unsubscribe(), Math.max(waitMs, 1));
      try {
        for await (const message of outcomes) {
          const outcome = readEvent(message.data).data.command;
          if (outcome && FINAL.has(outcome.status)) return outcome;
        }
      } finally {
        clearTimeout(timer);
      }
      return undefined;
    } finally {
      outcomes.unsubscribe();
    }
  }

  /** Puts a command on the bus. Resolves when it is on disk. */
  async store(subject: string, id: string, body: object): Promise<void> {
    await jetstream(this.#connection).publish(subject, JSON.stringify(body), {
      msgID: id,
      timeout: 5_000,
      // The same id is stored once, so that an answer that was lost may be asked for again.
      retries: 2,
    });
  }

  async ask<A>(subject: string, query: object, timeout = ANSWER_TIMEOUT_MS): Promise<A> {
    try {
      const answer = await this.#connection.request(subject, JSON.stringify(query), {
        timeout,
        headers: headers(),
      });
      const code = answer.headers?.get("Nats-Service-Error-Code");
      if (code) throw new Refused(Number(code), answer.headers?.get("Nats-Service-Error") ?? code);
      return answer.json<A>();
    } catch (error) {
      if (error instanceof RequestError && error.isNoResponders()) throw new NobodyAnswers(subject);
      if (error instanceof TimeoutError) {
        throw new Error(`${subject} gave no answer in ${timeout} ms`);
      }
      throw error;
    }
  }

  async #found<A>(subject: string, query: object): Promise<A | undefined> {
    try {
      return await this.ask<A>(subject, query);
    } catch (error) {
      if (error instanceof Refused && error.code === 404) return undefined;
      throw error;
    }
  }
}

/**
 * The id of a command that a tool call asks for. A tool call that is carried out twice (a retry of
 * the run, a replay after a crash) gives the same id, so that the phone rings once.
 */
export function intentOf(sessionKey: string, toolCallId: string): string {
  const digest = createHash("sha256").update(`${sessionKey}\n${toolCallId}`).digest("hex");
  return `oc-${digest.slice(0, 32)}`;
}
