import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename, rm, unlink } from "node:fs/promises";
import { basename, join } from "node:path";
import type { VoiceEvent } from "../bus/event.ts";
import type { Gateway, Logger, SessionScope } from "../gateway.ts";
import type { Ledger } from "../ledger.ts";
import type { Settings } from "../settings.ts";
import { noteOf } from "./note.ts";
import { day } from "./words.ts";

const KIND = "note";
const DAY_MS = 24 * 3_600_000;

/**
 * Keeps one note for each call in the agent's `memory/` directory: a file of its own, so that it
 * never races the agent's edits, written in one go, and written again only when words came late
 * and nobody has changed it meanwhile.
 */
export class Notes {
  readonly #gateway: Gateway;
  readonly #ledger: Ledger;
  readonly #settings: Settings;
  readonly #logger: Logger;

  constructor(gateway: Gateway, ledger: Ledger, settings: Settings, logger: Logger) {
    this.#gateway = gateway;
    this.#ledger = ledger;
    this.#settings = settings;
    this.#logger = logger;
  }

  /** Takes note of an event that is written down. */
  async hear(event: VoiceEvent, scope: SessionScope): Promise<void> {
    const { call, conversation } = event.data;
    const { notes } = this.#settings.memory;
    if (notes === "off" || !call || !conversation) return;
    // The leg of an outbound call that has no words of its own.
    if (call.utterances === 0 && (call.intent || call.other_leg)) return;
    const began = Date.parse(call.initiated_at ?? "") || event.at;
    const directory = join(this.#gateway.workspace(scope.agentId), "memory");
    const name = `${day(began, this.#settings.timeZone)}-call-${call.id}.md`;
    const path = join(directory, name);
    const text = noteOf(call, conversation, began, this.#settings);
    if (!(await this.#mayWrite(path, text))) return;
    await mkdir(directory, { recursive: true });
    await writeAtomically(path, text);
    this.#ledger.remember(KIND, path, digest(text));
  }

  /** Removes notes that are older than the setting says, as far as they are ours unchanged. */
  async sweep(now: number): Promise<number> {
    const { keepDays } = this.#settings.memory;
    if (keepDays <= 0) return 0;
    let removed = 0;
    for (const { key: path, value, at } of this.#ledger.since(KIND, 0)) {
      if (now - at < keepDays * DAY_MS) continue;
      const there = await readFile(path, "utf8").catch(() => undefined);
      if (there !== undefined && digest(there) === value) {
        await rm(path, { force: true });
        removed += 1;
      } else if (there !== undefined) {
        this.#logger.info(`voicebus: ${basename(path)} was changed by somebody and is kept`);
      }
      this.#ledger.forget(KIND, path);
    }
    return removed;
  }

  async #mayWrite(path: string, text: string): Promise<boolean> {
    const ours = this.#ledger.recall(KIND, path);
    if (ours === digest(text)) return false;
    const there = await readFile(path, "utf8").catch(() => undefined);
    // A file that we did not write, or that was changed since, is somebody else's.
    return there === undefined ? ours === undefined : ours === digest(there);
  }
}

async function writeAtomically(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  const file = await open(draft, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, path).catch(async (error: unknown) => {
    await unlink(draft).catch(() => undefined);
    throw error;
  });
}

const digest = (text: string) => createHash("sha256").update(text).digest("hex");
