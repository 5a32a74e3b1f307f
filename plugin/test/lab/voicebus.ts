import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { readEvent, type VoiceEvent } from "../../src/bus/event.ts";
import { isNoMessage } from "../../src/bus/log.ts";
import { freePort, Program, reached } from "./process.ts";

const BINARY =
  process.env["VOICEBUS_BIN"] ?? join(import.meta.dirname, "../../../target/debug/voicebus");

/** `voicebus up` with a stand-in for the call server. */
export class Voicebus {
  readonly dir: string;
  readonly http: string;
  readonly nats: string;
  readonly #ports: { http: number; nats: number; server: number };
  readonly #args: string[];
  #up: Program | undefined;
  #standIn: Program | undefined;

  private constructor(
    dir: string,
    ports: { http: number; nats: number; server: number },
    args: string[],
  ) {
    this.dir = dir;
    this.#ports = ports;
    this.#args = args;
    this.http = `http://127.0.0.1:${ports.http}`;
    this.nats = `nats://127.0.0.1:${ports.nats}`;
  }

  static async start(dir: string, args: string[] = []): Promise<Voicebus> {
    mkdirSync(dir, { recursive: true });
    const ports = { http: await freePort(), nats: await freePort(), server: await freePort() };
    const voicebus = new Voicebus(dir, ports, args);
    await voicebus.up();
    return voicebus;
  }

  get credentials(): string {
    return join(this.dir, "data", "credentials.json");
  }

  /** Where the stand-in writes the dials that reached it. */
  get dials(): string {
    return join(this.dir, "dials.jsonl");
  }

  async up(): Promise<void> {
    const run = join(this.dir, "data", "run.json");
    rmSync(run, { force: true });
    this.#up = new Program(
      BINARY,
      [
        "up",
        ...["--data-dir", join(this.dir, "data")],
        ...["--listen", `127.0.0.1:${this.#ports.http}`],
        ...["--nats-listen", `127.0.0.1:${this.#ports.nats}`],
        ...["--voice-server", `http://127.0.0.1:${this.#ports.server}`],
        ...this.#args,
      ],
      join(this.dir, "up.log"),
    );
    const up = this.#up;
    await reached("voicebus is up", () => {
      if (up.isOver) throw new Error(up.output().slice(-2000));
      return existsSync(run);
    });
  }

  /** Starts the stand-in for the call server, which writes down what it dials. */
  async serve(...args: string[]): Promise<void> {
    const log = join(this.dir, "stand-in.log");
    this.#standIn = new Program(
      BINARY,
      [
        "simulate",
        ...["--listen", `127.0.0.1:${this.#ports.server}`],
        ...["--target", this.http],
        ...["--record", this.dials],
        ...args,
      ],
      log,
    );
    const standIn = this.#standIn;
    await reached("the stand-in serves", () => standIn.output().includes("on http://"));
  }

  /** Makes calls, and resolves to what the ingress accepted. */
  async simulate(name: string, args: string[]): Promise<Record<string, unknown>[]> {
    const record = join(this.dir, `${name}.jsonl`);
    const program = new Program(
      BINARY,
      [
        "simulate",
        ...["--listen", "127.0.0.1:0"],
        ...["--target", this.http],
        ...["--record", record],
        "--exit",
        ...args,
      ],
      join(this.dir, `${name}.log`),
    );
    const code = await program.exit();
    if (code !== 0) throw new Error(program.output().slice(-2000));
    return lines(record);
  }

  /** Kills voicebus with its nats-server, and starts it again. */
  async killAndRestart(): Promise<void> {
    await this.#up?.kill();
    await this.up();
  }

  /** Kills the nats-server alone; voicebus brings it back. */
  killNats(): void {
    process.kill(this.natsPid, "SIGKILL");
  }

  /** The process of its nats-server. */
  get natsPid(): number {
    return JSON.parse(readFileSync(join(this.dir, "data", "run.json"), "utf8")).nats_pid;
  }

  async down(): Promise<void> {
    await this.#up?.stop();
  }

  /** Posts one event, as the call server does. */
  async post(body: Record<string, unknown>): Promise<void> {
    const answer = await fetch(`${this.http}/call-event`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  }

  /** The whole feed, as it is stored. */
  async feed(): Promise<VoiceEvent[]> {
    const connection = await this.connect();
    try {
      const manager = await jetstreamManager(connection, { checkAPI: false });
      const events: VoiceEvent[] = [];
      for (let seq = 1; ; ) {
        const page = { seq, batch: 500, next_by_subj: "voice.event.>" };
        const before = events.length;
        try {
          for await (const message of await manager.direct.getBatch("VOICE_EVENT", page)) {
            events.push(readEvent(message.data));
            seq = message.seq + 1;
          }
        } catch (error) {
          // There are no more.
          if (!isNoMessage(error)) throw error;
        }
        if (events.length === before) return events;
      }
    } finally {
      await connection.close();
    }
  }

  /** What the plugin's consumer has not got or not acknowledged. */
  async backlog(consumer = "openclaw"): Promise<{ pending: number; unacknowledged: number }> {
    const connection = await this.connect();
    try {
      const manager = await jetstreamManager(connection, { checkAPI: false });
      const info = await manager.consumers.info("VOICE_EVENT", consumer);
      return { pending: info.num_pending, unacknowledged: info.num_ack_pending };
    } finally {
      await connection.close();
    }
  }

  async connect(user = "agent") {
    const credentials = JSON.parse(readFileSync(this.credentials, "utf8"));
    return await connect({
      servers: this.nats,
      user,
      pass: credentials[user],
      inboxPrefix: `_INBOX_${user}`,
    });
  }
}

/** The lines of a file of JSON lines. */
export function lines(path: string): Record<string, unknown>[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}
