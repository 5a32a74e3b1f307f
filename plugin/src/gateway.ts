/**
 * The gateway, as far as this plugin knows it. Only this file and `index.ts` speak with the
 * gateway's SDK; its shapes are written down here by hand, because the SDK ships no types for
 * transcripts.
 */

import { randomUUID } from "node:crypto";
import {
  appendSessionTranscriptMessagesByIdentity,
  publishSessionTranscriptUpdateByIdentity,
  readVisibleSessionTranscriptMessageEntries,
} from "openclaw/plugin-sdk/session-transcript-runtime";
import { peekSystemEventEntries } from "openclaw/plugin-sdk/system-event-runtime";

export interface Logger {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

/** One message of a session's transcript. */
export interface Message {
  /** Written once, however often it is asked for. */
  key: string;
  role: "user" | "assistant";
  text: string;
  /** Milliseconds. */
  at: number;
}

/** What `api` of the gateway must have for us. */
export interface PluginRuntime {
  config: { current(): unknown };
  agent: {
    session: {
      getSessionEntry(which: SessionScope): SessionEntry | undefined;
      upsertSessionEntry(which: SessionScope & { entry: SessionEntry }): Promise<void>;
    };
    resolveAgentWorkspaceDir(config: unknown, agentId: string): string;
    resolveAgentIdentity(config: unknown, agentId?: string): Identity | undefined;
  };
  tasks: {
    async: {
      runs: { bindSession(which: SessionScope): { list(): Promise<TaskRun[]> } };
    };
  };
  system: {
    enqueueSystemEvent(
      text: string,
      options: { sessionKey: string; agentId?: string; contextKey?: string },
    ): boolean;
    requestHeartbeat(request: {
      source: string;
      intent: string;
      reason: string;
      agentId: string;
      sessionKey: string;
    }): void;
  };
}

export interface SessionScope {
  sessionKey: string;
  agentId: string;
}

export interface SessionEntry {
  sessionId: string;
  updatedAt: number;
  displayName?: string;
}

export interface Identity {
  name?: string;
}

/** A piece of work beside the conversation. */
interface TaskRun {
  status: string;
  label?: string;
  title: string;
}

/** More new messages than these are a backlog: who looks at the session reads it again. */
const SHOWN_MAX = 10;

interface Appended {
  appended: boolean;
  messageId: string;
  message: unknown;
}

export class Gateway {
  readonly #runtime: PluginRuntime;

  constructor(runtime: PluginRuntime) {
    this.#runtime = runtime;
  }

  /** The session's present conversation, made if there is none. */
  async openSession(scope: SessionScope, displayName?: string): Promise<string> {
    const entry = this.#runtime.agent.session.getSessionEntry(scope);
    if (entry) return entry.sessionId;
    const sessionId = randomUUID();
    await this.#runtime.agent.session.upsertSessionEntry({
      ...scope,
      entry: { sessionId, updatedAt: Date.now(), ...(displayName ? { displayName } : {}) },
    });
    // Somebody else may have been first.
    return this.#runtime.agent.session.getSessionEntry(scope)?.sessionId ?? sessionId;
  }

  /**
   * Writes messages at the end of a conversation; those whose key is there already stay as they
   * are. Resolves when they are on disk.
   */
  async append(scope: SessionScope, sessionId: string, messages: Message[]): Promise<void> {
    const target = { ...scope, sessionId };
    const appended: Appended[] = [];
    try {
      appended.push(...(await appendAll(target, messages)));
    } catch (error) {
      if (!isConflict(error)) throw error;
      // One of the keys is there with another text (a second leg, changed settings): what was
      // written first stays, and the others must not suffer.
      for (const message of messages) {
        try {
          appended.push(...(await appendAll(target, [message])));
        } catch (cause) {
          if (!isConflict(cause)) throw cause;
        }
      }
    }
    await show(
      target,
      appended.filter((result) => result.appended),
    );
  }

  /** The newest messages of a session, oldest first. */
  async recent(scope: SessionScope, count: number): Promise<{ role: string; text: string }[]> {
    const entry = this.#runtime.agent.session.getSessionEntry(scope);
    if (!entry) return [];
    const entries = await readVisibleSessionTranscriptMessageEntries({
      ...scope,
      sessionId: entry.sessionId,
    });
    return entries
      .slice(-count)
      .map(({ message }) => ({ role: message.role, text: plainText(message.content) }))
      .filter(({ text }) => text !== "");
  }

  /** What is being worked on for a session, newest first. */
  async openTasks(scope: SessionScope, count: number): Promise<string[]> {
    const runs = await this.#runtime.tasks.async.runs.bindSession(scope).list();
    return runs
      .filter(({ status }) => status === "queued" || status === "running")
      .slice(0, count)
      .map(({ label, title }) => label ?? title);
  }

  /** Tells the agent something in its next turn, and asks for that turn. */
  notify(scope: SessionScope, text: string, key: string): boolean {
    const queued = this.#runtime.system.enqueueSystemEvent(text, { ...scope, contextKey: key });
    this.#runtime.system.requestHeartbeat({
      source: "hook",
      intent: "immediate",
      reason: "wake",
      ...scope,
    });
    return queued;
  }

  /** Whether a notice still waits for a turn. */
  isWaiting(scope: SessionScope, key: string): boolean {
    return peekSystemEventEntries(scope.sessionKey, scope.agentId).some(
      (event) => event.contextKey === key,
    );
  }

  workspace(agentId: string): string {
    return this.#runtime.agent.resolveAgentWorkspaceDir(this.#runtime.config.current(), agentId);
  }

  identity(agentId: string): Identity | undefined {
    return this.#runtime.agent.resolveAgentIdentity(this.#runtime.config.current(), agentId);
  }
}

/** All or none. */
async function appendAll(
  target: SessionScope & { sessionId: string },
  messages: Message[],
): Promise<Appended[]> {
  return await appendSessionTranscriptMessagesByIdentity({
    ...target,
    messages: messages.map((message) => ({
      message: transcriptMessage(message),
      idempotencyLookup: "scan" as const,
      now: message.at,
    })),
  });
}

/** Shows new messages to whoever looks at the session. */
async function show(
  target: SessionScope & { sessionId: string },
  appended: Appended[],
): Promise<void> {
  if (appended.length > SHOWN_MAX) {
    await publishSessionTranscriptUpdateByIdentity(target);
    return;
  }
  for (const { message, messageId } of appended) {
    await publishSessionTranscriptUpdateByIdentity({ ...target, update: { message, messageId } });
  }
}

/** The gateway has no code for this, only words. */
function isConflict(error: unknown): boolean {
  return error instanceof Error && error.message.includes("conflicts with the admitted message");
}

function transcriptMessage(message: Message): Record<string, unknown> {
  const common = {
    role: message.role,
    content: [{ type: "text", text: message.text }],
    timestamp: message.at,
    idempotencyKey: message.key,
  };
  if (message.role === "user") return common;
  const none = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
  return {
    ...common,
    // Said on the phone, by a model that is not ours. The gateway's own names for messages that
    // are only shown must not be used: the agent would never see them.
    api: "voicebus",
    provider: "voicebus",
    model: "phone",
    usage: { ...none, totalTokens: 0, cost: { ...none, total: 0 } },
    stopReason: "stop",
  };
}

/** The text of a message's content, whatever form it has. */
export function plainText(content: unknown): string {
  if (typeof content === "string") return content.trim();
  if (!Array.isArray(content)) return "";
  return content
    .map((part) => (part?.type === "text" && typeof part.text === "string" ? part.text : ""))
    .join("\n")
    .trim();
}
