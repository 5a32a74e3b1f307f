import type { NatsConnection } from "@nats-io/nats-core";
import { connectTo } from "./bus/connection.ts";
import { Feed } from "./bus/feed.ts";
import { readLog, type Stored } from "./bus/log.ts";
import { Requests } from "./bus/requests.ts";
import { Briefing } from "./calls/briefing.ts";
import { Notes } from "./calls/notes.ts";
import { Notices } from "./calls/notices.ts";
import { type Counts, Scribe } from "./calls/scribe.ts";
import { explain } from "./explain.ts";
import type { Gateway, Logger } from "./gateway.ts";
import { Ledger } from "./ledger.ts";
import { readSettings, type Settings, secretsOf } from "./settings.ts";

const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;
const HOUR_MS = 3_600_000;
/** The stream keeps events for 30 days; nothing older can come again. */
const LEDGER_AGE_MAX_MS = 35 * 24 * HOUR_MS;

export interface ServiceParts {
  config: unknown;
  gateway: Gateway;
  ledgerPath: string;
  logger: Logger;
  health: { reportFailure(error: unknown): void; clearFailure(): void } | undefined;
}

export interface Status {
  state: "starting" | "working" | "waiting" | "stopped";
  /** Why it waits, and what to do. */
  problem?: string;
  nats: string;
  consumer: string;
  /** What the server has for this plugin; absent when it cannot be asked. */
  backlog?: { pending: number; unacknowledged: number };
  /** Events that have come and are not written down yet. */
  inHand: number;
  /** Calls that cannot be written at the moment; the log says why. */
  failing: number;
  /** Notices that no turn of an agent has taken yet. */
  noticesWaiting: number;
  contextsSent: number;
  counts: Counts & { unreadable: number };
}

/** The plugin at work: holds the connection, and begins anew whatever breaks. */
export class Service {
  readonly settings: Settings;
  readonly ledger: Ledger;
  readonly briefing: Briefing;
  readonly #parts: ServiceParts;
  readonly #scribe: Scribe;
  readonly #notices: Notices;
  readonly #notes: Notes;
  readonly #stop = new AbortController();
  #done: Promise<void> = Promise.resolve();
  #sweeping: NodeJS.Timeout | undefined;
  #connection: NatsConnection | undefined;
  #feed: Feed | undefined;
  #problem: string | undefined;
  #unreadable = 0;

  constructor(parts: ServiceParts) {
    const { gateway, logger } = parts;
    const settings = readSettings(parts.config, process.env);
    const ledger = new Ledger(parts.ledgerPath);
    this.#parts = parts;
    this.settings = settings;
    this.ledger = ledger;
    this.#notices = new Notices(gateway, ledger, settings, logger);
    this.#notes = new Notes(gateway, ledger, settings, logger);
    this.briefing = new Briefing(gateway, settings, logger, () =>
      this.#connection ? new Requests(this.#connection) : undefined,
    );
    this.#scribe = new Scribe({
      gateway,
      ledger,
      settings,
      logger,
      readLog: async (subject, from, upTo) =>
        await readLog(this.#openFeed().manager, subject, from, upTo),
      listeners: [
        async (event, scope) => await this.briefing.hear(event, scope),
        async (event, scope) => await this.#notes.hear(event, scope),
        async (event, scope) => await this.#notices.hear(event, scope),
      ],
    });
  }

  start(): void {
    this.#notices.start();
    const sweep = () => {
      this.ledger.prune(Date.now() - LEDGER_AGE_MAX_MS);
      this.#notes
        .sweep(Date.now())
        .catch((error: unknown) => this.#parts.logger.warn(explain(error)));
    };
    sweep();
    this.#sweeping = setInterval(sweep, HOUR_MS);
    this.#done = this.#run();
  }

  /** Finishes what is in hand, and leaves. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearInterval(this.#sweeping);
    this.#notices.stop();
    this.briefing.stop();
    this.#feed?.stop();
    await this.#done;
    await this.#connection?.drain().catch(() => undefined);
    this.ledger.close();
  }

  /** Asks voicebus. Throws a sentence when there is no connection. */
  requests(): Requests {
    if (!this.#connection || this.#connection.isClosed()) {
      throw new Error(`voicebus is not reachable: ${this.#problem ?? "the plugin is starting"}`);
    }
    return new Requests(this.#connection);
  }

  /** All events of a call. */
  async log(subject: string): Promise<Stored[]> {
    return await readLog(this.#openFeed().manager, subject, 1, Number.MAX_SAFE_INTEGER);
  }

  async status(): Promise<Status> {
    const backlog = await this.#feed?.backlog().catch(() => undefined);
    return {
      state: this.#state(),
      ...(this.#problem ? { problem: this.#problem } : {}),
      nats: this.settings.nats.url,
      consumer: this.settings.nats.consumer,
      ...(backlog ? { backlog } : {}),
      inHand: this.#feed?.inHand ?? 0,
      failing: this.#scribe.failing,
      noticesWaiting: this.#notices.waiting,
      contextsSent: this.briefing.sent,
      counts: { ...this.#scribe.counts, unreadable: this.#unreadable },
    };
  }

  #state(): Status["state"] {
    if (this.#stop.signal.aborted) return "stopped";
    if (this.#problem !== undefined) return "waiting";
    return this.#feed ? "working" : "starting";
  }

  #openFeed(): Feed {
    if (!this.#feed) {
      throw new Error(`voicebus is not reachable: ${this.#problem ?? "the plugin is starting"}`);
    }
    return this.#feed;
  }

  async #run(): Promise<void> {
    let wait = RETRY_MIN_MS;
    while (!this.#stop.signal.aborted) {
      try {
        const feed = await this.#open();
        wait = RETRY_MIN_MS;
        await feed.run();
      } catch (error) {
        this.#trouble(error);
        await this.#connection?.close().catch(() => undefined);
        this.#connection = undefined;
        await pause(wait, this.#stop.signal);
        wait = Math.min(wait * 2, RETRY_MAX_MS);
      }
    }
  }

  async #open(): Promise<Feed> {
    const { nats } = this.settings;
    this.#connection ??= await connectTo(nats, secretsOf(nats, process.env));
    const handle = this.#scribe.handle.bind(this.#scribe);
    this.#feed = await Feed.open(this.#connection, nats, this.ledger.newest(), handle, {
      trouble: (error) => this.#trouble(error),
      well: () => this.#well(),
      unreadable: (reason, position) => {
        this.#unreadable += 1;
        this.#parts.logger.error(
          `voicebus: event ${position} of the feed cannot be read and is left out: ${reason}`,
        );
      },
    });
    if (this.#stop.signal.aborted) this.#feed.stop();
    return this.#feed;
  }

  #trouble(error: unknown): void {
    const problem = explain(error);
    if (problem !== this.#problem) this.#parts.logger.warn(`voicebus: ${problem}`);
    this.#problem = problem;
    this.#parts.health?.reportFailure(new Error(problem));
  }

  #well(): void {
    this.#parts.logger.info(
      this.#problem === undefined ? "voicebus: listening to calls" : "voicebus: well again",
    );
    this.#problem = undefined;
    this.#parts.health?.clearFailure();
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
