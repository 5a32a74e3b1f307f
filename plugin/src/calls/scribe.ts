import type { VoiceEvent } from "../bus/event.ts";
import type { Stored } from "../bus/log.ts";
import { explain } from "../explain.ts";
import type { Gateway, Logger, Message, SessionScope } from "../gateway.ts";
import type { Ledger, Progress } from "../ledger.ts";
import { Serial } from "../serial.ts";
import { agentOf } from "../session-key.ts";
import type { Settings } from "../settings.ts";
import { commandMessages, liveMessages, movedAway, wholeCall } from "./messages.ts";
import { shownNumber } from "./words.ts";

/** Reads a call's events back, from a place in the stream and up to a sequence. */
export type ReadLog = (subject: string, from: number, upTo: number) => Promise<Stored[]>;

/** Told of each event after it is written down. Must be idempotent: it may be told again. */
export type Listener = (event: VoiceEvent, scope: SessionScope) => Promise<void>;

/** How long a call that cannot be written is tried again before it is given up for the others. */
const FAILING_MAX_MS = 5 * 60_000;

export interface Counts {
  written: number;
  repeated: number;
  refetched: number;
  parked: number;
}

/**
 * Writes calls into sessions: each event once, in the order of its sequence. The ledger says how
 * far a call is written down. Events that are missing before one that came (the server delivers
 * what was in flight at a crash after newer events) are fetched from the stream first.
 */
export class Scribe {
  readonly counts: Counts = { written: 0, repeated: 0, refetched: 0, parked: 0 };
  readonly #sessions = new Serial();
  readonly #failingSince = new Map<string, number>();
  #wroteAt = 0;
  readonly #gateway: Gateway;
  readonly #ledger: Ledger;
  readonly #settings: Settings;
  readonly #readLog: ReadLog;
  readonly #listeners: Listener[];
  readonly #logger: Logger;

  constructor(parts: {
    gateway: Gateway;
    ledger: Ledger;
    settings: Settings;
    readLog: ReadLog;
    listeners: Listener[];
    logger: Logger;
  }) {
    this.#gateway = parts.gateway;
    this.#ledger = parts.ledger;
    this.#settings = parts.settings;
    this.#readLog = parts.readLog;
    this.#listeners = parts.listeners;
    this.#logger = parts.logger;
  }

  /** Resolves when the batch is on disk; throws when it shall be delivered again. */
  async handle(subject: string, batch: Stored[]): Promise<void> {
    const before = this.#ledger.progress(subject);
    let last: Stored | undefined;
    try {
      const events = await this.#complete(subject, batch, before);
      last = events.at(-1);
      if (!last) return;
      await this.#write(events.map(({ event }) => event));
      this.#failingSince.delete(subject);
      this.#wroteAt = Date.now();
    } catch (error) {
      if (!this.#isHopeless(subject, error) || !last) throw error;
      this.#park(subject, last.event.sequence, error);
    }
    this.#ledger.advance(subject, { sequence: last.event.sequence, position: last.position });
  }

  /** What is new in the batch, with what is missing before it, in order. */
  async #complete(subject: string, batch: Stored[], before: Progress): Promise<Stored[]> {
    const bySequence = new Map(
      batch
        .filter(({ event }) => event.sequence > before.sequence)
        .map((stored) => [stored.event.sequence, stored]),
    );
    this.counts.repeated += batch.length - bySequence.size;
    if (bySequence.size === 0) return [];
    const last = Math.max(...bySequence.keys());
    if (last - before.sequence > bySequence.size) {
      const log = await this.#readLog(subject, before.position + 1, last);
      // A copy of the stream that lags behind must not look like events that are gone for ever.
      if (log.at(-1)?.event.sequence !== last)
        throw new Error("the stream cannot be read back yet");
      for (const stored of log) {
        if (stored.event.sequence <= before.sequence) continue;
        if (!bySequence.has(stored.event.sequence)) this.counts.refetched += 1;
        bySequence.set(stored.event.sequence, stored);
      }
    }
    return [...bySequence.values()].sort((a, b) => a.event.sequence - b.event.sequence);
  }

  async #write(events: VoiceEvent[]): Promise<void> {
    let run: { key: string; messages: Message[]; name: string | undefined } | undefined;
    const flush = async () => {
      if (run) await this.#append(run.key, run.messages, run.name);
      run = undefined;
    };
    for (const event of events) {
      if (event.what === "session.rebound" && event.data.session) {
        await flush();
        await this.#move(event, event.data.session.from);
        continue;
      }
      const messages = await this.#messagesOf(event);
      if (messages.length === 0) continue;
      if (run && run.key !== event.sessionKey) await flush();
      run ??= { key: event.sessionKey, messages: [], name: nameOf(event) };
      run.messages.push(...messages);
    }
    await flush();
    for (const event of events) {
      const scope = scopeOf(event.sessionKey);
      if (!scope) continue;
      for (const listener of this.#listeners) await listener(event, scope);
    }
  }

  async #messagesOf(event: VoiceEvent): Promise<Message[]> {
    switch (this.#settings.transcript) {
      case "live":
        return liveMessages(event, this.#settings);
      case "after": {
        if (event.data.command) return commandMessages(event, this.#settings);
        if (event.what !== "transcript.completed") return [];
        const log = await this.#readLog(event.subject, 1, event.sequence);
        const ids = new Map(log.map((stored) => [stored.event.sequence, stored.event.id]));
        return wholeCall(event, (sequence) => ids.get(sequence), this.#settings);
      }
      case "off":
        return [];
    }
  }

  /** A call was found to belong to another session: what was said so far goes there too. */
  async #move(event: VoiceEvent, from: string): Promise<void> {
    if (this.#settings.transcript !== "live") return;
    await this.#append(from, [movedAway(event)], nameOf(event));
    const log = await this.#readLog(event.subject, 1, event.sequence - 1);
    const messages = log.flatMap((stored) => liveMessages(stored.event, this.#settings));
    await this.#append(event.sessionKey, messages, nameOf(event));
  }

  async #append(sessionKey: string, messages: Message[], name: string | undefined): Promise<void> {
    const scope = scopeOf(sessionKey);
    if (!scope) {
      this.#logger.error("a call names a session key that OpenClaw cannot have; not written down");
      return;
    }
    if (messages.length === 0) return;
    await this.#sessions.run(sessionKey, async () => {
      const sessionId = await this.#gateway.openSession(scope, name);
      await this.#gateway.append(scope, sessionId, messages);
    });
    this.counts.written += messages.length;
  }

  /** Calls that cannot be written at the moment. */
  get failing(): number {
    return this.#failingSince.size;
  }

  /** Whether one call has failed for long while others are written. */
  #isHopeless(subject: string, error: unknown): boolean {
    const now = Date.now();
    const since = this.#failingSince.get(subject);
    if (since === undefined) {
      this.#failingSince.set(subject, now);
      this.#logger.warn(
        `voicebus: call ${subject} cannot be written down, and is tried again: ${explain(error)}`,
      );
      return false;
    }
    return now - since > FAILING_MAX_MS && now - this.#wroteAt < 60_000;
  }

  #park(subject: string, sequence: number, error: unknown): void {
    this.#failingSince.delete(subject);
    this.counts.parked += 1;
    const reason = explain(error);
    this.#ledger.remember("parked", `${subject}:${sequence}`, reason);
    this.#logger.error(
      `call ${subject} could not be written down up to event ${sequence}, and is given up: ${reason}`,
    );
  }
}

function scopeOf(sessionKey: string): SessionScope | undefined {
  const agentId = agentOf(sessionKey);
  return agentId === undefined ? undefined : { sessionKey, agentId };
}

/** A name for a session that is made for calls; others have names of their own. */
function nameOf(event: VoiceEvent): string | undefined {
  if (!event.sessionKey.includes(":voice:")) return undefined;
  const number = event.data.call?.number ?? event.data.command?.to;
  return number ? `Phone ${shownNumber(number, "masked")}` : "Phone";
}
