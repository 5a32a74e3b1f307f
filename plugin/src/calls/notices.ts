import { conversationOf, type VoiceEvent } from "../bus/event.ts";
import type { Gateway, Logger, SessionScope } from "../gateway.ts";
import type { Ledger } from "../ledger.ts";
import type { Settings } from "../settings.ts";
import { commandEnd, endOf } from "./words.ts";

const KIND = "notice";
/** The gateway keeps 20 system events for a session and drops the oldest without a word. */
const WAITING_MAX = 10;
const LOOK_EVERY_MS = 2_000;
/** A gateway may have been away for a day. Nobody wants to be woken for a call of last week. */
const AGE_MAX_MS = 72 * 3_600_000;

interface Notice {
  state: "pending" | "queued" | "given";
  sessionKey: string;
  agentId: string;
  text: string;
}

/**
 * Tells the agent that a call is over, once. The gateway keeps what it is told in memory only, so
 * a notice is remembered here until a turn has taken it, and is given again after a restart. Its
 * text is ours alone: nothing that was said on the phone goes into it, because it is trusted.
 */
export class Notices {
  readonly #gateway: Gateway;
  readonly #ledger: Ledger;
  readonly #settings: Settings;
  readonly #logger: Logger;
  readonly #open = new Map<string, Notice>();
  #timer: NodeJS.Timeout | undefined;

  constructor(gateway: Gateway, ledger: Ledger, settings: Settings, logger: Logger) {
    this.#gateway = gateway;
    this.#ledger = ledger;
    this.#settings = settings;
    this.#logger = logger;
  }

  /** Takes up what an earlier run has left. */
  start(): void {
    for (const { key, value } of this.#ledger.since(KIND, Date.now() - AGE_MAX_MS)) {
      const notice = JSON.parse(value) as Notice;
      if (notice.state !== "given") this.#open.set(key, { ...notice, state: "pending" });
    }
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Notices that no turn has taken yet. */
  get waiting(): number {
    return this.#open.size;
  }

  /** Takes note of an event that is written down. */
  async hear(event: VoiceEvent, scope: SessionScope): Promise<void> {
    if (this.#settings.notify === "off" || Date.now() - event.at > AGE_MAX_MS) return;
    const notice = noticeOf(event, this.#settings);
    if (!notice || this.#ledger.recall(KIND, notice.key) !== undefined) return;
    const to =
      this.#settings.notify === "main"
        ? { agentId: scope.agentId, sessionKey: `agent:${scope.agentId}:main` }
        : scope;
    const where =
      to.sessionKey === scope.sessionKey
        ? "What was said is in this session."
        : `What was said is in the session ${scope.sessionKey}.`;
    const text = notice.hasWords ? `${notice.text} ${where}` : notice.text;
    await this.#gateway.openSession(to);
    this.#keep(notice.key, { state: "pending", ...to, text });
    this.#look();
  }

  /** Hands over what is pending, and finds out what a turn has taken. */
  #look(): void {
    const waiting = new Map<string, number>();
    for (const [key, notice] of this.#open) {
      if (notice.state !== "queued") continue;
      if (this.#gateway.isWaiting(notice, contextKey(key))) {
        waiting.set(notice.sessionKey, (waiting.get(notice.sessionKey) ?? 0) + 1);
      } else {
        this.#keep(key, { ...notice, state: "given" });
        this.#open.delete(key);
      }
    }
    for (const [key, notice] of this.#open) {
      const before = waiting.get(notice.sessionKey) ?? 0;
      if (notice.state !== "pending" || before >= WAITING_MAX) continue;
      try {
        this.#gateway.notify(notice, notice.text, contextKey(key));
        waiting.set(notice.sessionKey, before + 1);
        this.#open.set(key, { ...notice, state: "queued" });
      } catch (error) {
        this.#logger.warn(`voicebus: the agent could not be told of a call: ${error}`);
        return;
      }
    }
  }

  #keep(key: string, notice: Notice): void {
    this.#ledger.remember(KIND, key, JSON.stringify(notice));
    this.#open.set(key, notice);
  }
}

const contextKey = (key: string) => `voicebus:${key}`;

function noticeOf(
  event: VoiceEvent,
  settings: Settings,
): { key: string; text: string; hasWords: boolean } | undefined {
  const { call, command } = event.data;
  if (command) {
    const text = commandEnd(command, settings.numbers);
    return text ? { key: `${command.id}:${command.status}`, text, hasWords: false } : undefined;
  }
  // Some seconds after the end, when what was said last has come too.
  if (!call || event.what !== "transcript.completed") return undefined;
  const hasWords = call.utterances > 0 && settings.transcript !== "off";
  return { key: conversationOf(call), text: endOf(call, settings.numbers), hasWords };
}
