import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort, Program, reached } from "./process.ts";

const OPENCLAW = process.env["OPENCLAW_DIR"] ?? "";
const PLUGIN = process.env["PLUGIN_DIR"] ?? join(import.meta.dirname, "../..");
/** One message of a session. */
export interface Message {
  role: string;
  text: string;
}

const TOKEN = "gw-test-token-0123456789abcdef";

/** A real gateway with the plugin, without a model key, on a state of its own. */
export class TestGateway {
  readonly dir: string;
  readonly port: number;
  #config: Record<string, unknown>;
  #program: Program | undefined;

  private constructor(dir: string, port: number, config: Record<string, unknown>) {
    this.dir = dir;
    this.port = port;
    this.#config = config;
  }

  /** Writes the configuration of a gateway; `up` starts it. */
  static async prepare(
    dir: string,
    plugin: Record<string, unknown>,
    more: Record<string, unknown>,
    loaded: boolean,
  ): Promise<TestGateway> {
    const port = await freePort();
    const gateway = new TestGateway(dir, port, {
      gateway: {
        mode: "local",
        bind: "loopback",
        port,
        auth: { mode: "token", token: TOKEN },
      },
      discovery: { mdns: { mode: "off" } },
      update: { checkOnStart: false },
      plugins: {
        ...(loaded ? { load: { paths: [PLUGIN] } } : {}),
        allow: ["voicebus", "memory-core"],
        entries: { voicebus: { enabled: true, config: plugin } },
      },
      ...more,
      agents: {
        defaults: { workspace: join(dir, "workspace"), ...((more["agents"] as object) ?? {}) },
      },
    });
    mkdirSync(join(dir, "home"), { recursive: true });
    gateway.configure({});
    return gateway;
  }

  /** Writes the configuration file, with the plugin's settings changed. */
  configure(plugin: Record<string, unknown>): void {
    const { plugins } = this.#config as { plugins: { entries: { voicebus: { config: object } } } };
    plugins.entries.voicebus.config = { ...plugins.entries.voicebus.config, ...plugin };
    writeFileSync(join(this.dir, "openclaw.json"), JSON.stringify(this.#config, null, 2));
  }

  get environment(): NodeJS.ProcessEnv {
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      HOME: join(this.dir, "home"),
      OPENCLAW_STATE_DIR: this.dir,
      OPENCLAW_CONFIG_PATH: join(this.dir, "openclaw.json"),
      OPENCLAW_DISABLE_BONJOUR: "1",
      OPENCLAW_NO_RESPAWN: "1",
      NO_COLOR: "1",
    };
    return env;
  }

  get workspace(): string {
    return join(this.dir, "workspace");
  }

  /** Starts without waiting, for those who kill it again. */
  launch(): void {
    this.#program = new Program(
      process.execPath,
      [
        join(OPENCLAW, "openclaw.mjs"),
        ...["gateway", "run", "--port", String(this.port), "--bind", "loopback"],
      ],
      join(this.dir, "gateway.log"),
      this.environment,
    );
  }

  async up(): Promise<void> {
    this.launch();
    await this.ready();
  }

  async ready(): Promise<void> {
    const program = this.#program;
    await reached(
      "the gateway is ready",
      async () => {
        if (!program || program.isOver) throw new Error(program?.output().slice(-3000));
        return (await fetch(`http://127.0.0.1:${this.port}/readyz`)).ok;
      },
      300_000,
    );
  }

  async kill(): Promise<void> {
    await this.#program?.kill();
  }

  async stop(): Promise<void> {
    await this.#program?.stop();
  }

  get pid(): number {
    if (!this.#program) throw new Error("the gateway does not run");
    return this.#program.pid;
  }

  log(): string {
    return this.#program?.output() ?? "";
  }

  /** Runs `openclaw …` beside the gateway. */
  async cli(args: string[]): Promise<{ code: number | null; output: string }> {
    const log = join(this.dir, `cli-${process.hrtime.bigint()}.log`);
    const program = new Program(
      process.execPath,
      [join(OPENCLAW, "openclaw.mjs"), ...args],
      log,
      this.environment,
    );
    const code = await program.exit();
    return { code, output: program.output() };
  }

  /** Asks over the gateway's WebSocket, as its own user interface does. */
  async rpc<T = Record<string, unknown>>(method: string, params: object = {}): Promise<T> {
    const socket = await GatewaySocket.open(this.port);
    try {
      return (await socket.ask(method, params)) as T;
    } finally {
      socket.close();
    }
  }

  /** Watches the messages of a session, as the user interface does. */
  async watch(key: string): Promise<{ until(text: string): Promise<void>; close(): void }> {
    const socket = await GatewaySocket.open(this.port);
    await socket.ask("sessions.messages.subscribe", { key });
    return {
      until: async (text) => await socket.event((frame) => frame.includes(text)),
      close: () => socket.close(),
    };
  }

  /** Runs one of an agent's tools. */
  async tool(
    tool: string,
    args: object,
    more: object = {},
  ): Promise<{ ok: boolean; text: string; details: Record<string, unknown> }> {
    const answer = await this.http("/tools/invoke", { tool, args, ...more });
    const body = (await answer.json()) as {
      ok: boolean;
      error?: { message: string };
      result?: { content?: { text: string }[]; details?: Record<string, unknown> };
    };
    return {
      ok: body.ok,
      text: body.result?.content?.map((part) => part.text).join("\n") ?? body.error?.message ?? "",
      details: body.result?.details ?? {},
    };
  }

  async http(path: string, body?: object, token: string | undefined = TOKEN): Promise<Response> {
    return await fetch(`http://127.0.0.1:${this.port}${path}`, {
      method: body ? "POST" : "GET",
      headers: {
        "Content-Type": "application/json",
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
  }

  /** What a session says, read back through the gateway. */
  async history(sessionKey: string): Promise<Message[]> {
    const answer = await this.rpc<{ messages: { role: string; content: unknown }[] }>(
      "chat.history",
      { sessionKey, limit: 1000 },
    );
    return answer.messages.map(({ role, content }) => ({ role, text: textOf(content) }));
  }
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => part?.text ?? "").join("\n");
}

/** A connection to the gateway with an operator's rights. */
class GatewaySocket {
  readonly #socket: WebSocket;
  readonly #answers = new Map<string, (frame: Frame) => void>();
  readonly #watchers = new Set<(text: string) => void>();
  #asked = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  static async open(port: number): Promise<GatewaySocket> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`);
    const it = new GatewaySocket(socket);
    const challenged = it.event((text) => text.includes("connect.challenge"));
    const failed = new Promise<never>((_, reject) => {
      socket.onerror = () => reject(new Error("no connection to the gateway"));
      socket.onclose = () => {
        const gone = { ok: false, error: "the gateway is gone" };
        for (const answer of it.#answers.values()) answer(gone);
        reject(new Error("no connection to the gateway"));
      };
    });
    failed.catch(() => undefined);
    socket.onmessage = ({ data }) => it.#take(String(data));
    await Promise.race([challenged, failed]);
    await it.ask("connect", {
      minProtocol: 4,
      maxProtocol: 4,
      client: { id: "gateway-client", version: "0.0.1", platform: "linux", mode: "backend" },
      role: "operator",
      scopes: ["operator.read", "operator.write", "operator.admin"],
      caps: [],
      auth: { token: TOKEN },
    });
    return it;
  }

  async ask(method: string, params: object): Promise<unknown> {
    this.#asked += 1;
    const id = String(this.#asked);
    const frame = await new Promise<Frame>((resolve) => {
      const timer = setTimeout(() => resolve({ ok: false, error: "no answer" }), 120_000);
      this.#answers.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      this.#socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
    this.#answers.delete(id);
    if (!frame.ok) throw new Error(`${method}: ${JSON.stringify(frame.error)}`);
    return frame.payload;
  }

  /** Waits for an event of the gateway. */
  async event(is: (text: string) => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      const watcher = (text: string) => {
        if (!is(text)) return;
        this.#watchers.delete(watcher);
        resolve();
      };
      this.#watchers.add(watcher);
    });
  }

  close(): void {
    this.#socket.onclose = null;
    this.#socket.close();
  }

  #take(text: string): void {
    const frame = JSON.parse(text) as Frame & { type: string; id: string };
    if (frame.type === "res") this.#answers.get(frame.id)?.(frame);
    else for (const watcher of [...this.#watchers]) watcher(text);
  }
}

interface Frame {
  ok: boolean;
  payload?: unknown;
  error?: unknown;
}
