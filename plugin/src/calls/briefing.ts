import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Call, VoiceEvent } from "../bus/event.ts";
import type { Requests } from "../bus/requests.ts";
import { command } from "../bus/subjects.ts";
import { explain } from "../explain.ts";
import type { Gateway, Logger, SessionScope } from "../gateway.ts";
import type { Settings } from "../settings.ts";
import {
  conversationText,
  earlierCalls,
  fitted,
  isOfPhone,
  type Section,
  taskList,
  tokensOf,
} from "./context.ts";

/** A call that began longer ago is not briefed any more: its events are a backlog. */
const FRESH_MS = 60_000;
const TURNS_MAX = 20;
const EARLIER_CALLS_MAX = 6;
const TASKS_MAX = 10;

interface Briefed {
  call: Call;
  scope: SessionScope;
  revision: number;
  sent: string;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Tells a call's assistant what the agent knows: when the call begins, and again, not too often,
 * when its session moves on beside the call. It is a help and not a record: what cannot be sent is
 * left out, and never holds up what is written down.
 */
export class Briefing {
  sent = 0;
  readonly #gateway: Gateway;
  readonly #settings: Settings;
  readonly #logger: Logger;
  readonly #requests: () => Requests | undefined;
  readonly #calls = new Map<string, Briefed>();

  constructor(
    gateway: Gateway,
    settings: Settings,
    logger: Logger,
    requests: () => Requests | undefined,
  ) {
    this.#gateway = gateway;
    this.#settings = settings;
    this.#logger = logger;
    this.#requests = requests;
  }

  /** Takes note of an event that is written down. */
  async hear(event: VoiceEvent, scope: SessionScope): Promise<void> {
    const { call } = event.data;
    if (!call || !this.#settings.context.enabled) return;
    const over = call.state === "ended" || call.ended_at !== null;
    const known = this.#calls.get(call.id);
    if (over) {
      clearTimeout(known?.timer);
      this.#calls.delete(call.id);
    } else if (!known && event.sequence === 1 && Date.now() - event.at < FRESH_MS) {
      const briefed = { call, scope, revision: 0, sent: "", timer: undefined };
      this.#calls.set(call.id, briefed);
      this.#later(briefed, 0);
    } else if (known && known.scope.sessionKey !== scope.sessionKey) {
      known.scope = scope;
      known.call = call;
      this.#later(known, 0);
    }
  }

  /** The gateway says that a session has changed. */
  sessionChanged(sessionKey: string): void {
    for (const briefed of this.#calls.values()) {
      if (briefed.scope.sessionKey === sessionKey && briefed.revision > 0) {
        this.#later(briefed, this.#settings.context.everySeconds * 1000);
      }
    }
  }

  stop(): void {
    for (const { timer } of this.#calls.values()) clearTimeout(timer);
    this.#calls.clear();
  }

  #later(briefed: Briefed, ms: number): void {
    if (briefed.timer) return;
    briefed.timer = setTimeout(() => {
      briefed.timer = undefined;
      this.#send(briefed).catch((error: unknown) =>
        this.#logger.warn(`voicebus: a call could not be told its context: ${explain(error)}`),
      );
    }, ms);
  }

  async #send(briefed: Briefed): Promise<void> {
    const requests = this.#requests();
    if (!requests) return;
    const text = await this.#compile(briefed, requests);
    if (text === "" || text === briefed.sent || !this.#calls.has(briefed.call.id)) return;
    const { call, scope } = briefed;
    const revision = briefed.revision + 1;
    const id = `ctx-${call.id}-${revision}`.slice(0, 128);
    await requests.store(command("context", call.id), id, {
      id,
      session: scope.sessionKey,
      context: { text, revision, tokens: tokensOf(text) },
    });
    briefed.revision = revision;
    briefed.sent = text;
    this.sent += 1;
  }

  async #compile(briefed: Briefed, requests: Requests): Promise<string> {
    const { call, scope } = briefed;
    const { include, tokens, ownerNumbers } = this.#settings.context;
    const wants = new Set(include);
    const sections: Section[] = [];
    const add = (title: string, text: string) => sections.push({ title, text });
    if (wants.has("identity")) {
      const name = this.#gateway.identity(scope.agentId)?.name;
      if (name) add("Who you are", `You speak for the assistant ${name}.`);
    }
    // The profile is about the owner, and is nobody else's business.
    if (wants.has("profile") && call.number && ownerNumbers.includes(call.number)) {
      const path = join(this.#gateway.workspace(scope.agentId), "USER.md");
      add("The person on the phone", await readFile(path, "utf8").catch(() => ""));
    }
    if (wants.has("conversation")) {
      const recent = await this.#gateway.recent(scope, TURNS_MAX);
      // The call knows its own words; what is new to it later is what happens beside it.
      const news = briefed.revision === 0 ? recent : recent.filter(({ text }) => !isOfPhone(text));
      add("Conversation so far", conversationText(news, tokens * 2));
    }
    if (wants.has("calls") && call.number) {
      const calls = await requests.callsWith(call.number, EARLIER_CALLS_MAX).catch(() => []);
      add("Earlier calls with this person", earlierCalls(calls));
    }
    if (wants.has("tasks")) {
      const tasks = await this.#gateway.openTasks(scope, TASKS_MAX).catch(() => []);
      add("What is being worked on", taskList(tasks));
    }
    return fitted(sections, tokens);
  }
}
