import { readFileSync, statSync } from "node:fs";

/** The plugin's settings, complete. `openclaw.plugin.json` describes each for people. */
export interface Settings {
  nats: {
    url: string;
    user: string;
    passwordFile: string | undefined;
    credsFile: string | undefined;
    nkeyFile: string | undefined;
    caFile: string | undefined;
    certFile: string | undefined;
    keyFile: string | undefined;
    consumer: string;
    start: "new" | "all";
  };
  transcript: "live" | "after" | "off";
  notify: "session" | "main" | "off";
  numbers: "masked" | "full";
  timeZone: string;
  memory: {
    notes: "full" | "beginning" | "off";
    numbers: "masked" | "full";
    keepDays: number;
  };
  context: {
    enabled: boolean;
    tokens: number;
    everySeconds: number;
    include: ContextPart[];
    ownerNumbers: string[];
  };
  dialling: {
    allowed: boolean;
    numbers: string[];
    perHour: number;
    perDay: number;
    perNumberPerDay: number;
    deadlineSeconds: number;
  };
}

export const CONTEXT_PARTS = ["identity", "profile", "conversation", "calls"] as const;
export type ContextPart = (typeof CONTEXT_PARTS)[number];

/**
 * Completes what the configuration says. The gateway has checked it against the schema in
 * `openclaw.plugin.json`, whose defaults are these.
 */
export function readSettings(raw: unknown, env: NodeJS.ProcessEnv): Settings {
  const given = section(raw);
  const nats = section(given["nats"]);
  const memory = section(given["memory"]);
  const context = section(given["context"]);
  const dialling = section(given["dialling"]);
  const timeZone = or(given["timeZone"], "UTC");
  try {
    new Intl.DateTimeFormat("en", { timeZone });
  } catch {
    throw new Error(`timeZone: ${JSON.stringify(timeZone)} is no time zone such as Europe/Vienna`);
  }
  return {
    nats: {
      url: or(nats["url"], env["VOICEBUS_NATS_URL"] || "nats://127.0.0.1:4222"),
      user: or(nats["user"], "plugin"),
      passwordFile: or(nats["passwordFile"], env["VOICEBUS_NATS_PASSWORD_FILE"] || undefined),
      credsFile: or(nats["credsFile"], undefined),
      nkeyFile: or(nats["nkeyFile"], undefined),
      caFile: or(nats["caFile"], undefined),
      certFile: or(nats["certFile"], undefined),
      keyFile: or(nats["keyFile"], undefined),
      consumer: or(nats["consumer"], "openclaw"),
      start: or(nats["start"], "new"),
    },
    transcript: or(given["transcript"], "live"),
    notify: or(given["notify"], "session"),
    numbers: or(given["numbers"], "masked"),
    timeZone,
    memory: {
      notes: or(memory["notes"], "full"),
      numbers: or(memory["numbers"], "masked"),
      keepDays: or(memory["keepDays"], 0),
    },
    context: {
      enabled: or(context["enabled"], true),
      tokens: or(context["tokens"], 1500),
      everySeconds: or(context["everySeconds"], 5),
      include: or(context["include"], [...CONTEXT_PARTS]),
      ownerNumbers: or(context["ownerNumbers"], []),
    },
    dialling: {
      allowed: or(dialling["allowed"], false),
      numbers: or(dialling["numbers"], []),
      perHour: or(dialling["perHour"], 10),
      perDay: or(dialling["perDay"], 50),
      perNumberPerDay: or(dialling["perNumberPerDay"], 3),
      deadlineSeconds: or(dialling["deadlineSeconds"], 120),
    },
  };
}

function section(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function or<T>(value: unknown, fallback: T): T {
  return value === undefined ? fallback : (value as T);
}

/** Where secrets come from: the environment or files, never the configuration. */
export interface Secrets {
  natsPassword(): string;
  /** The seed of an NKey, of whose pair the server knows the public half. */
  natsSeed(): Uint8Array;
}

/** Reads secrets when they are needed, so that a changed file is taken at the next connection. */
export function secretsOf(settings: Settings["nats"], env: NodeJS.ProcessEnv): Secrets {
  return {
    natsSeed() {
      const path = settings.nkeyFile ?? "";
      const seed = /^SU[A-Z2-7]{56}$/m.exec(smallFile("nats.nkeyFile", path).replaceAll("\r", ""));
      if (!seed) {
        throw new Error(
          `nats.nkeyFile ${path} holds no seed of a user, a line that begins with SU`,
        );
      }
      return new TextEncoder().encode(seed[0]);
    },
    natsPassword() {
      if (env["VOICEBUS_NATS_PASSWORD"]) return env["VOICEBUS_NATS_PASSWORD"];
      if (!settings.passwordFile) {
        throw new Error(
          "no NATS password: set nats.passwordFile (voicebus up writes .voicebus/credentials.json) or the variable VOICEBUS_NATS_PASSWORD",
        );
      }
      return passwordIn(settings.passwordFile, settings.user);
    },
  };
}

/** A file with the password alone, or the credentials.json of `voicebus up`. */
function passwordIn(path: string, user: string): string {
  const text = smallFile("nats.passwordFile", path).trim();
  if (!text.startsWith("{")) {
    if (text === "") throw new Error(`nats.passwordFile ${path} is empty`);
    return text;
  }
  let password: unknown;
  try {
    password = JSON.parse(text)[user];
  } catch {
    throw new Error(`nats.passwordFile ${path} is not JSON`);
  }
  if (typeof password !== "string" || password === "") {
    throw new Error(`nats.passwordFile ${path} has no password of the user "${user}"`);
  }
  return password;
}

function smallFile(setting: string, path: string): string {
  try {
    if (statSync(path).size > 65_536) throw new Error("it is too large");
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`${setting} ${path} cannot be read`, { cause: error });
  }
}
