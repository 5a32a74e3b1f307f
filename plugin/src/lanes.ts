/**
 * Keeps order within each key and lets different keys go on beside each other. What waits in a
 * lane is handed over together, so that a backlog is worked off in batches.
 */
export class Lanes<T> {
  readonly #waiting = new Map<string, T[]>();
  readonly #work: (key: string, batch: T[]) => Promise<void>;
  readonly #batchSizeMax: number;
  #idle: (() => void)[] = [];

  /** `work` must not throw: it decides itself what becomes of what it could not do. */
  constructor(batchSizeMax: number, work: (key: string, batch: T[]) => Promise<void>) {
    this.#batchSizeMax = batchSizeMax;
    this.#work = work;
  }

  /** Puts an item at the end of its lane. */
  add(key: string, item: T): void {
    const lane = this.#waiting.get(key);
    if (lane) {
      lane.push(item);
    } else {
      const fresh = [item];
      this.#waiting.set(key, fresh);
      void this.#drain(key, fresh);
    }
  }

  /** How many lanes have work. */
  get busy(): number {
    return this.#waiting.size;
  }

  /** Resolves when no lane has work. */
  async idle(): Promise<void> {
    if (this.#waiting.size === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  async #drain(key: string, lane: T[]): Promise<void> {
    // Everything that is added before the next turn of the event loop goes into the first batch.
    await Promise.resolve();
    while (lane.length > 0) {
      await this.#work(key, lane.splice(0, this.#batchSizeMax));
    }
    this.#waiting.delete(key);
    if (this.#waiting.size === 0) {
      for (const resolve of this.#idle.splice(0)) resolve();
    }
  }
}
