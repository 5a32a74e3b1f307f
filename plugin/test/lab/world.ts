import { strict as assert } from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { VoiceEvent } from "../../src/bus/event.ts";
import { type Message, TestGateway } from "./gateway.ts";
import { endAll, reached } from "./process.ts";
import { Voicebus } from "./voicebus.ts";

export type { Message };

/** A voicebus and a gateway with the plugin, in a directory of their own. */
export interface World {
  dir: string;
  voicebus: Voicebus;
  gateway: TestGateway;
}

export interface Wish {
  /** The plugin's settings. */
  plugin?: Record<string, unknown>;
  /** More of the gateway's configuration. */
  gateway?: Record<string, unknown>;
  /** The plugin will be installed: the gateway is not started, and has no load path. */
  installed?: boolean;
  /** More arguments of `voicebus up`. */
  up?: string[];
}

/** Builds a world, lets it be used, and ends it; keeps its files when that failed. */
export async function inWorld(wish: Wish, use: (world: World) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "voicebus-plugin-"));
  try {
    const voicebus = await Voicebus.start(join(dir, "voicebus"), wish.up ?? []);
    const gateway = await TestGateway.prepare(
      join(dir, "gateway"),
      { nats: { url: voicebus.nats, passwordFile: voicebus.credentials }, ...wish.plugin },
      wish.gateway ?? {},
      !wish.installed,
    );
    if (!wish.installed) await gateway.up();
    await use({ dir, voicebus, gateway });
    await endAll();
    rmSync(dir, { recursive: true, force: true });
  } catch (error) {
    console.error(`the files of this world are in ${dir}`);
    await endAll();
    throw error;
  }
}

/** Waits until the plugin has acknowledged everything that the feed holds. */
export async function settled({ voicebus, gateway }: World, withinMs = 300_000): Promise<void> {
  await reached(
    "the plugin has written everything down",
    async () => {
      const { pending, unacknowledged } = await voicebus.backlog();
      const status = await gateway.rpc<{ inHand: number }>("voicebus.status");
      return pending === 0 && unacknowledged === 0 && status.inHand === 0;
    },
    withinMs,
  );
}

/**
 * Holds the gateway's sessions against the feed: each utterance is in the session that its call
 * belongs to, once, and the utterances of each call are in their order. Returns how many there are
 * (the simulator's are all different).
 */
export async function everyWordIsInItsPlace(world: World): Promise<number> {
  const feed = await world.voicebus.feed();
  const spoken = spokenBySession(feed);
  const words = new Set<string>();
  for (const [sessionKey, calls] of spoken) {
    const history = await world.gateway.history(sessionKey);
    for (const [call, texts] of calls) {
      const written = history.map(({ text }) => bare(text)).filter((text) => texts.includes(text));
      assert.deepEqual(written, texts, `the words of ${call} in its session`);
      for (const text of texts) words.add(text);
    }
    const all = [...calls.values()].flat();
    const phone = history.filter(({ text }) => /\[rtc_[0-9a-f]+ \d+\/\d+\]/.test(text));
    assert.equal(phone.length, all.length, "words in a session that belong to no call of it");
  }
  return words.size;
}

/** Each call has one beginning and one end, in the session that it belongs to at last. */
export async function everyCallIsToldOnce(world: World): Promise<void> {
  const feed = (await world.voicebus.feed()).filter(({ data }) => data.call);
  // By the last event: those that come out of their turn may tell the session late.
  const homes = new Map(feed.map(({ subject, sessionKey }) => [subject, sessionKey]));
  for (const [call, home] of homes) {
    const history = await world.gateway.history(home);
    const [begin, end, ...more] = history.filter(({ text }) => text.includes(`call ${call}`));
    assert.deepEqual(more, [], `one beginning and one end of ${call}`);
    assert.match(
      begin?.text ?? `nothing tells that ${call} began`,
      /^\[Phone call began: inbound, from (\+\d\d…\d\d|a withheld number)/,
    );
    assert.match(
      end?.text ?? `nothing tells that ${call} ended`,
      /^\[Phone call ended: inbound, from /,
    );
  }
}

/** What was said, without the mark that says who and when. */
export function bare(text: string): string {
  return text.replace(/^\[on the phone[^\]]*\] (?:(?:Caller|Called person|Phone system): )?/, "");
}

/**
 * What must stand in each session, by call and in the order of the feed: all words of a call in the
 * session that it belongs to at last, and in a session that it left those that were said there.
 */
export function spokenBySession(feed: VoiceEvent[]): Map<string, Map<string, string[]>> {
  const sessions = new Map<string, Map<string, string[]>>();
  const last = new Map(feed.map(({ subject, sessionKey }) => [subject, sessionKey]));
  const add = (sessionKey: string, call: string, text: string) => {
    const calls = sessions.get(sessionKey) ?? new Map<string, string[]>();
    sessions.set(sessionKey, calls);
    calls.set(call, [...(calls.get(call) ?? []), text]);
  };
  for (const { subject, sessionKey, data } of feed) {
    if (!data.transcript) continue;
    const home = last.get(subject) ?? sessionKey;
    add(home, subject, data.transcript.text);
    if (sessionKey !== home) add(sessionKey, subject, data.transcript.text);
  }
  return sessions;
}

/** Waits until a number of calls have come to their end in the feed. */
export async function callsCompleted(world: World, count: number): Promise<VoiceEvent[]> {
  return await reached(
    `${count} calls are completed`,
    async () => {
      const feed = await world.voicebus.feed();
      const done = new Set(
        feed.filter(({ what }) => what === "transcript.completed").map(({ subject }) => subject),
      );
      return done.size >= count && feed;
    },
    300_000,
  );
}
