import { readFileSync } from "node:fs";
import type { NatsConnection, TlsOptions } from "@nats-io/nats-core";
import {
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  nkeyAuthenticator,
} from "@nats-io/transport-node";
import { explain } from "../explain.ts";
import type { Secrets, Settings } from "../settings.ts";

/**
 * Connects, and keeps trying: a gateway must start while NATS is away, and come back by itself.
 * The name and the inbox are those of the user, because the server lets it listen to no other.
 */
export async function connectTo(
  settings: Settings["nats"],
  secrets: Secrets,
): Promise<NatsConnection> {
  const options: ConnectionOptions = {
    servers: settings.url.split(",").map((url) => url.trim()),
    name: "openclaw-voicebus",
    inboxPrefix: `_INBOX_${settings.user}`,
    // For ever: the feed is durable, so that nothing is lost by waiting.
    maxReconnectAttempts: -1,
    reconnectTimeWait: 500,
    pingInterval: 10_000,
    maxPingOut: 2,
    ignoreAuthErrorAbort: true,
  };
  const tls = tlsOf(settings);
  if (tls) options.tls = tls;
  if (settings.credsFile) {
    options.authenticator = credsAuthenticator(readFileSync(settings.credsFile));
  } else if (settings.nkeyFile) {
    // Read at each connection, so that a new key needs no restart.
    options.authenticator = nkeyAuthenticator(() => secrets.natsSeed());
  } else {
    options.user = settings.user;
    options.pass = secrets.natsPassword();
  }
  let connection: NatsConnection;
  try {
    connection = await connect(options);
  } catch (error) {
    throw new Error(reason(error, settings));
  }
  const version = connection.info?.version ?? "0";
  if (isTooOld(version)) {
    await connection.close();
    throw new Error(
      `NATS at ${settings.url} is nats-server ${version}; voicebus needs 2.12 or newer`,
    );
  }
  return connection;
}

/** Whether a server is older than voicebus itself can do with. */
export function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major < 2 || (major === 2 && minor < 12);
}

/**
 * Certificates, which are read at each connection; `undefined` when encryption is not asked for. If
 * it is, nothing is told to a server without it.
 */
function tlsOf({ url, caFile, certFile, keyFile }: Settings["nats"]): TlsOptions | undefined {
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new Error("nats.certFile and nats.keyFile need each other");
  }
  if (!caFile && !certFile && !url.includes("tls://")) return undefined;
  return {
    ...(caFile ? { caFile } : {}),
    ...(certFile && keyFile ? { certFile, keyFile } : {}),
  };
}

function reason(error: unknown, settings: Settings["nats"]): string {
  const text = explain(error);
  if (/authorization/i.test(text)) {
    return `NATS at ${settings.url} does not know the user "${settings.user}" with this password or key; check nats.user and nats.passwordFile`;
  }
  if (/certificate|self.signed|tls/i.test(text)) {
    return `NATS at ${settings.url} and we do not trust each other (${text}); check tls:// in nats.url, nats.caFile and nats.certFile`;
  }
  return `NATS at ${settings.url} cannot be reached (${text}); is voicebus running, and nats.url right?`;
}
