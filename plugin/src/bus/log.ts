import type { JetStreamManager } from "@nats-io/jetstream";
import { readEvent, type VoiceEvent } from "./event.ts";
import { eventsOf, STREAM_EVENT } from "./subjects.ts";

/** An event with its place in the stream. */
export interface Stored {
  event: VoiceEvent;
  position: number;
}

const BATCH = 100;

/**
 * Reads the log of a call (or command) back from the stream, from a place on and up to a sequence.
 * What the stream no longer keeps is missing at the beginning.
 */
export async function readLog(
  manager: JetStreamManager,
  subject: string,
  from: number,
  upTo: number,
): Promise<Stored[]> {
  const log: Stored[] = [];
  let next = Math.max(from, 1);
  for (;;) {
    const found = await readPage(manager, subject, next);
    for (const stored of found) {
      if (stored.event.sequence > upTo) return log;
      log.push(stored);
      if (stored.event.sequence === upTo) return log;
    }
    const last = found.at(-1);
    if (found.length < BATCH || !last) return log;
    next = last.position + 1;
  }
}

async function readPage(
  manager: JetStreamManager,
  subject: string,
  seq: number,
): Promise<Stored[]> {
  const page: Stored[] = [];
  try {
    const messages = await manager.direct.getBatch(STREAM_EVENT, {
      seq,
      next_by_subj: eventsOf(subject),
      batch: BATCH,
    });
    for await (const message of messages) {
      page.push({ event: readEvent(message.data), position: message.seq });
    }
  } catch (error) {
    if (!isNoMessage(error)) throw error;
  }
  return page;
}

/** Whether there was nothing to read: an empty page, for which the client has no code. */
export function isNoMessage(error: unknown): boolean {
  return (
    error instanceof Error && /message (?:was )?not found|no message found/i.test(error.message)
  );
}
