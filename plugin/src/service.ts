import type { NatsConnection } from "@nats-io/nats-core";
import { connectTo } from "./bus/connection.ts";
import { Feed } from "./bus/feed.ts";
import { readLog } from "./bus/log.ts";
import { type Counts, Scribe } from "./calls/scribe.ts";
import { explain } from "./explain.ts";
import type { Gateway, Logger } from "./gateway.ts";
import { Ledger } from "./ledger.ts";
import { readSettings, type Settings, secretsOf } from "./settings.ts";

const RETRY_MIN_MS = 500;
const RETRY_MAX_MS = 10_000;

export interface ServiceParts {
  config: unknown;
  gateway: Gateway;
  ledgerPath: string;
  logger: Logger;
  health: { reportFailure(error: unknown): void; clearFailure(): void } | undefined;
}

export interface Status {
  state: "starting" | "working" | "waiting" | "stopped";
  problem?: string;
  nats: string;
  consumer: string;
  backlog?: { pending: number; unacknowledged: number };
  inHand: number;
  counts: Counts & { unreadable: number };
}

/** The plugin at work: holds the connection, and begins anew whatever breaks. */
export class Service {
  readonly settings: Settings;
  readonly #parts: ServiceParts;
  readonly #ledger: Ledger;
  readonly #scribe: Scribe;
  readonly #stop = new AbortController();
  #done: Promise<void> = Promise.resolve();
  #connection: NatsConnection | undefined;
  #feed: Feed | undefined;
  #problem: string | undefined;
  #unreadable = 0;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.settings = readSettings(parts.config, process.env);
    this.#ledger = new Ledger(parts.ledgerPath);
    this.#scribe = new Scribe({
      gateway: parts.gateway,
      ledger: this.#ledger,
      settings: this.settings,
      readLog: async (subject, from, upTo) => {
        if (!this.#feed) throw new Error("the feed is closed");
        return await readLog(this.#feed.manager, subject, from, upTo);
      },
      listeners: [],
      logger: parts.logger,
    });
  }

  start(): void {
    this.#done = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#feed?.stop();
    await this.#done;
    await this.#connection?.drain().catch(() => undefined);
    this.#ledger.close();
  }

  async status(): Promise<Status> {
    const feed = this.#feed;
    const backlog = await feed?.backlog().catch(() => undefined);
    return {
      state: this.#stop.signal.aborted
        ? "stopped"
        : this.#problem
          ? "waiting"
          : feed
            ? "working"
            : "starting",
      ...(this.#problem ? { problem: this.#problem } : {}),
      nats: this.settings.nats.url,
      consumer: this.settings.nats.consumer,
      ...(backlog ? { backlog } : {}),
      inHand: feed?.inHand ?? 0,
      counts: { ...this.#scribe.counts, unreadable: this.#unreadable },
    };
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
    const { settings } = this;
    this.#connection ??= await connectTo(settings.nats, secretsOf(settings.nats, process.env));
    const handle = this.#scribe.handle.bind(this.#scribe);
    this.#feed = await Feed.open(this.#connection, settings.nats, handle, {
      trouble: (error) => this.#trouble(error),
      well: () => this.#well(),
      unreadable: (reason, position) => {
        this.#unreadable += 1;
        this.#parts.logger.error(
          `event ${position} of the feed cannot be read and is left out: ${reason}`,
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
    if (this.#problem !== undefined) this.#parts.logger.info("voicebus: well again");
    else this.#parts.logger.info("voicebus: listening to calls");
    this.#problem = undefined;
    this.#parts.health?.clearFailure();
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
