import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:net";

/** Waits until a condition holds, and says what it waited for when it does not. */
export async function reached<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  withinMs = 60_000,
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
    // A group of its own, so that all of it can be killed.
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

  /** Kills it with all its children, at once. */
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (!this.isOver) {
      try {
        process.kill(-this.pid, signal);
      } catch {
        // It has just gone.
      }
    }
    await this.#exited;
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

/** Ends whatever still runs. */
export async function endAll(): Promise<void> {
  await Promise.all([...running].map((program) => program.kill()));
}
