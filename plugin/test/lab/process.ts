import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";

/**
 * Waits until a condition holds, and says what it waited for when it does not. The bounds are for
 * what never comes: a gateway that starts on a machine with other work takes some minutes.
 */
export async function reached<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  withinMs = 180_000,
): Promise<T> {
  const deadline = Date.now() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      const found = await condition();
      if (found !== undefined && found !== false) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) {
      throw new Error(`not reached in ${withinMs} ms: ${what}`, { cause: last });
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A port that was free a moment ago, for servers that must come back where they were. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || address === null) throw new Error("no address");
  return address.port;
}

const running = new Set<Program>();

/** A process of ours, with its output in a file. */
export class Program {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  readonly log: string;

  constructor(command: string, args: string[], log: string, env: NodeJS.ProcessEnv = process.env) {
    this.log = log;
    const out = openSync(log, "a");
    // A group of its own, so that a signal for the tests does not reach it.
    this.#child = spawn(command, args, { stdio: ["ignore", out, out], env, detached: true });
    closeSync(out);
    running.add(this);
    this.#exited = new Promise((resolve) => {
      this.#child.once("exit", (code) => {
        running.delete(this);
        resolve(code);
      });
      this.#child.once("error", () => {
        running.delete(this);
        resolve(null);
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`did not start; see ${this.log}`);
    return this.#child.pid;
  }

  get isOver(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Kills it at once, with all that it has started. */
  async kill(): Promise<void> {
    this.killNow();
    await this.#exited;
  }

  /** The same, for those who cannot wait. */
  killNow(): void {
    if (this.isOver) return;
    // The children in groups of their own too: a gateway has some that outlive it.
    for (const pid of [this.pid, ...descendants(this.pid)]) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has just gone.
      }
    }
  }

  /** Asks it to leave, and waits for it. */
  async stop(): Promise<void> {
    if (!this.isOver) process.kill(this.pid, "SIGTERM");
    await this.#exited;
  }

  async exit(): Promise<number | null> {
    return await this.#exited;
  }

  output(): string {
    return readFileSync(this.log, "utf8");
  }
}

function descendants(of: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // It has just gone.
    }
  }
  const found = children.get(of) ?? [];
  // Grows while it is gone through.
  for (const pid of found) found.push(...(children.get(pid) ?? []));
  return found;
}

// Whoever ends the tests ends what they have started.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    for (const program of running) program.killNow();
    process.exit(1);
  });
}

/** Ends whatever still runs. */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map((program) => program.kill()));
}
