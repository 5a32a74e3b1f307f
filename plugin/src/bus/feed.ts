import {
  AckPolicy,
  type Consumer,
  type ConsumerMessages,
  DeliverPolicy,
  JetStreamApiError,
  type JetStreamManager,
  type JsMsg,
  jetstream,
  jetstreamManager,
  ReplayPolicy,
} from "@nats-io/jetstream";
import { type NatsConnection, nanos } from "@nats-io/nats-core";
import { explain } from "../explain.ts";
import { Lanes } from "../lanes.ts";
import type { Settings } from "../settings.ts";
import { readEvent, UnreadableEvent } from "./event.ts";
import type { Stored } from "./log.ts";
import { EVENTS_ALL, STREAM_EVENT } from "./subjects.ts";

/** Unacknowledged events at a time: bounds memory, and the work that a crash repeats. */
const IN_FLIGHT_MAX = 256;
/** Events of one call that are written down together. */
const BATCH_SIZE_MAX = 50;
/** After a crash, what was in flight comes again after this time. */
const ACK_WAIT_MS = 10_000;
/** How often the server is told that an event is still being worked on. */
const WORKING_EVERY_MS = 3_000;

/**
 * What becomes of the events of one call: resolves when their effects are on disk; rejects, having
 * said why, when they shall come again.
 */
export type Handler = (subject: string, batch: Stored[]) => Promise<void>;

/** Somebody has deleted the consumer, or the stream. */
class ConsumerGone extends Error {
  constructor() {
    super("the consumer or the stream was deleted");
  }
}

const GONE = new Set<string>(["consumer_not_found", "consumer_deleted", "stream_not_found"]);

export interface FeedReport {
  unreadable(reason: string, position: number): void;
  trouble(error: unknown): void;
  well(): void;
}

/**
 * The durable consumer. An event is acknowledged when the handler has resolved, so an event whose
 * effect is not on disk comes again. Events of one call are handled in the order in which they
 * came; whoever handles them looks for what is missing between them, because after a crash newer
 * events come before those that were in flight.
 */
export class Feed {
  readonly manager: JetStreamManager;
  readonly #consumer: Consumer;
  readonly #report: FeedReport;
  readonly #inHand = new Set<JsMsg>();
  readonly #lanes: Lanes<{ stored: Stored; message: JsMsg }>;
  #messages: ConsumerMessages | undefined;
  #gone = false;
  #stopped = false;

  private constructor(
    manager: JetStreamManager,
    consumer: Consumer,
    handle: Handler,
    report: FeedReport,
  ) {
    this.manager = manager;
    this.#consumer = consumer;
    this.#report = report;
    this.#lanes = new Lanes(BATCH_SIZE_MAX, async (subject, batch) => {
      try {
        await handle(
          subject,
          batch.map((item) => item.stored),
        );
        for (const { message } of batch) message.ack();
      } catch {
        // Left alone: the server delivers them again after the ack wait. The handler has said why.
      } finally {
        for (const { message } of batch) this.#inHand.delete(message);
      }
    });
  }

  /**
   * Finds or makes the consumer; `newest` is the place of the newest event that is written down, so
   * that one that somebody has deleted is made again where it was. Throws a sentence for people
   * when that cannot be.
   */
  static async open(
    connection: NatsConnection,
    settings: Settings["nats"],
    newest: number,
    handle: Handler,
    report: FeedReport,
  ): Promise<Feed> {
    const manager = await jetstreamManager(connection, { checkAPI: false });
    await ensureConsumer(manager, settings, newest).catch((error: unknown) => {
      if (!/permissions violation/i.test(explain(error))) throw error;
      throw new Error(
        `the NATS user "${settings.user}" may not use the consumer ${settings.consumer} of ${STREAM_EVENT}; check nats.user and nats.consumer against nats/accounts.conf of voicebus`,
      );
    });
    const consumer = await jetstream(connection).consumers.get(STREAM_EVENT, settings.consumer);
    return new Feed(manager, consumer, handle, report);
  }

  /** Takes events until `stop`. */
  async run(): Promise<void> {
    const working = setInterval(() => {
      for (const message of this.#inHand) message.working();
    }, WORKING_EVERY_MS);
    try {
      while (!this.#stopped) {
        try {
          await this.#consume();
        } catch (error) {
          if (this.#stopped) return;
          if (error instanceof ConsumerGone) throw error;
          this.#report.trouble(error);
          await new Promise((resolve) => setTimeout(resolve, 1_000));
        }
      }
    } finally {
      await this.#lanes.idle();
      clearInterval(working);
    }
  }

  /** Takes no more events; `run` resolves when those in hand are done. */
  stop(): void {
    this.#stopped = true;
    this.#messages?.stop();
  }

  /** Events that have come and are not done. */
  get inHand(): number {
    return this.#inHand.size;
  }

  /** What the server has for us: not yet delivered, and delivered without an acknowledgement. */
  async backlog(): Promise<{ pending: number; unacknowledged: number }> {
    const info = await this.#consumer.info();
    return { pending: info.num_pending, unacknowledged: info.num_ack_pending };
  }

  async #consume(): Promise<void> {
    const messages = await this.#consumer.consume({
      max_messages: 100,
      expires: 10_000,
      idle_heartbeat: 2_000,
    });
    this.#messages = messages;
    if (this.#stopped) messages.stop();
    void this.#watch(messages);
    this.#report.well();
    for await (const message of messages) this.#take(message);
    if (this.#gone) throw new ConsumerGone();
  }

  /** Reports outages of the pull; the client itself resumes it. */
  async #watch(messages: ConsumerMessages): Promise<void> {
    for await (const status of messages.status()) {
      if (status.type === "heartbeats_missed" && status.count === 2) {
        this.#report.trouble(new Error("NATS does not answer"));
      } else if (GONE.has(status.type)) {
        this.#gone = true;
        messages.stop();
      }
    }
  }

  #take(message: JsMsg): void {
    const position = message.info.streamSequence;
    try {
      const event = readEvent(message.data);
      this.#inHand.add(message);
      this.#lanes.add(event.subject, { stored: { event, position }, message });
    } catch (error) {
      if (!(error instanceof UnreadableEvent)) throw error;
      // It will not get better, and must not stop the others.
      this.#report.unreadable(error.message, position);
      message.term(error.message);
    }
  }
}

async function ensureConsumer(
  manager: JetStreamManager,
  settings: Settings["nats"],
  newest: number,
): Promise<void> {
  const name = settings.consumer;
  let end: number;
  try {
    end = (await manager.streams.info(STREAM_EVENT)).state.last_seq;
  } catch (error) {
    if (isApiError(error, 10059)) {
      throw new Error(
        `NATS at ${settings.url} has no stream ${STREAM_EVENT}; start voicebus there, or run voicebus provision`,
      );
    }
    throw error;
  }
  try {
    const { config } = await manager.consumers.info(STREAM_EVENT, name);
    if (config.ack_policy !== AckPolicy.Explicit || config.filter_subject !== EVENTS_ALL) {
      throw new Error(
        `the consumer ${name} of ${STREAM_EVENT} belongs to something else; set nats.consumer to another name`,
      );
    }
  } catch (error) {
    if (!isApiError(error, 10014)) throw error;
    await manager.consumers.add(STREAM_EVENT, {
      durable_name: name,
      description: "The calls in OpenClaw's sessions.",
      filter_subject: EVENTS_ALL,
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(ACK_WAIT_MS),
      max_ack_pending: IN_FLIGHT_MAX,
      max_deliver: -1,
      ...beginning(settings.start, newest, end),
      replay_policy: ReplayPolicy.Instant,
    });
  }
}

/** Where a consumer that is not there begins. */
function beginning(start: "new" | "all", newest: number, end: number) {
  // The first time.
  if (newest === 0) {
    return { deliver_policy: start === "all" ? DeliverPolicy.All : DeliverPolicy.New };
  }
  // A stream that is shorter than what was read is another one.
  if (newest > end) return { deliver_policy: DeliverPolicy.All };
  // What was in flight before the newest may not be written down yet.
  return {
    deliver_policy: DeliverPolicy.StartSequence,
    opt_start_seq: Math.max(1, newest - IN_FLIGHT_MAX),
  };
}

function isApiError(error: unknown, code: number): boolean {
  return error instanceof JetStreamApiError && error.code === code;
}
