/** The parts of the gateway's SDK for which its package has no types. */

declare module "openclaw/plugin-sdk/session-transcript-runtime" {
  interface Target {
    agentId: string;
    sessionKey: string;
    sessionId: string;
  }
  export function appendSessionTranscriptMessagesByIdentity(
    request: Target & {
      messages: {
        message: Record<string, unknown>;
        idempotencyLookup: "scan";
        now: number;
      }[];
    },
  ): Promise<{ appended: boolean; messageId: string; message: unknown }[]>;
  export function publishSessionTranscriptUpdateByIdentity(
    target: Target & { update?: { message: unknown; messageId: string } },
  ): Promise<void>;
  export function readVisibleSessionTranscriptMessageEntries(
    target: Target,
  ): Promise<{ message: { role: string; content: unknown } }[]>;
}

declare module "openclaw/plugin-sdk/system-event-runtime" {
  export function peekSystemEventEntries(
    sessionKey: string,
    agentId?: string,
  ): { text: string; contextKey?: string | null }[];
}

declare module "openclaw/plugin-sdk/plugin-entry" {
  export function definePluginEntry<T>(entry: T): T;
}

declare module "openclaw/plugin-sdk/gateway-runtime" {
  export function addGatewayClientOptions(command: unknown): unknown;
  export function callGatewayFromCli(
    method: string,
    options: Record<string, unknown>,
    params: Record<string, unknown>,
  ): Promise<unknown>;
}
