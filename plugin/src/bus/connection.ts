import { readFileSync } from "node:fs";
import type { NatsConnection } from "@nats-io/nats-core";
import { type ConnectionOptions, connect, credsAuthenticator } from "@nats-io/transport-node";
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
  if (secrets.natsCreds !== undefined) {
    options.authenticator = credsAuthenticator(readFileSync(secrets.natsCreds));
  } else {
    options.user = settings.user;
    options.pass = secrets.natsPassword();
  }
  try {
    return await connect(options);
  } catch (error) {
    throw new Error(reason(error, settings));
  }
}

function reason(error: unknown, settings: Settings["nats"]): string {
  const text = explain(error);
  if (/authorization/i.test(text)) {
    return `NATS at ${settings.url} does not know the user "${settings.user}" with this password; check nats.user and nats.passwordFile`;
  }
  return `NATS at ${settings.url} cannot be reached (${text}); is voicebus running, and nats.url right?`;
}
