import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

/**
 * What this plugin has done, on disk: how far each call is written down, and what was done once
 * and must not be done again. It may be lost: calls are then written again from their beginning,
 * and the session's own idempotency keys keep them from being doubled.
 */
export class Ledger {
  readonly #db: DatabaseSync;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    this.#db = new DatabaseSync(path);
    this.#db.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA busy_timeout = 5000;
      CREATE TABLE IF NOT EXISTS progress (
        subject TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        position INTEGER NOT NULL,
        at INTEGER NOT NULL
      ) STRICT;
      CREATE TABLE IF NOT EXISTS done (
        what TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (what, key)
      ) STRICT;
    `);
  }

  /** How far a call is written down: its last sequence, and the place of that in the stream. */
  progress(subject: string): Progress {
    const row = this.#db
      .prepare("SELECT sequence, position FROM progress WHERE subject = ?")
      .get(subject) as Progress | undefined;
    return row ? { sequence: row.sequence, position: row.position } : { sequence: 0, position: 0 };
  }

  /** Remembers how far a call is written down. */
  advance(subject: string, to: Progress): void {
    this.#db
      .prepare(
        `INSERT INTO progress (subject, sequence, position, at) VALUES (?, ?, ?, ?)
         ON CONFLICT (subject) DO UPDATE SET sequence = excluded.sequence, position = excluded.position, at = excluded.at`,
      )
      .run(subject, to.sequence, to.position, Date.now());
  }

  /** The place in the stream of the newest event that is written down; 0 when there is none. */
  newest(): number {
    const row = this.#db.prepare("SELECT max(position) AS position FROM progress").get() as {
      position: number | null;
    };
    return row.position ?? 0;
  }

  /** What is remembered of something that is done once. */
  recall(what: string, key: string): string | undefined {
    const row = this.#db
      .prepare("SELECT value FROM done WHERE what = ? AND key = ?")
      .get(what, key) as { value: string } | undefined;
    return row?.value;
  }

  /** Remembers something; a second time replaces the value. */
  remember(what: string, key: string, value: string): void {
    this.#db
      .prepare(
        `INSERT INTO done (what, key, value, at) VALUES (?, ?, ?, ?)
         ON CONFLICT (what, key) DO UPDATE SET value = excluded.value`,
      )
      .run(what, key, value, Date.now());
  }

  /** Everything remembered of a kind since a time, oldest first. */
  since(what: string, at: number): { key: string; value: string; at: number }[] {
    return this.#db
      .prepare("SELECT key, value, at FROM done WHERE what = ? AND at >= ? ORDER BY at")
      .all(what, at) as { key: string; value: string; at: number }[];
  }

  /** Forgets one thing. */
  forget(what: string, key: string): void {
    this.#db.prepare("DELETE FROM done WHERE what = ? AND key = ?").run(what, key);
  }

  /** Forgets what is older; the stream itself keeps events for a month. */
  prune(before: number): void {
    this.#db.prepare("DELETE FROM progress WHERE at < ?").run(before);
    this.#db.prepare("DELETE FROM done WHERE at < ? AND what <> 'note'").run(before);
  }

  close(): void {
    this.#db.close();
  }
}

export interface Progress {
  sequence: number;
  position: number;
}
