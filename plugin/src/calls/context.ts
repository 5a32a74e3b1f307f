/** What a call's assistant is given to know. Pure. */

import type { PastCall } from "../bus/requests.ts";
import { duration, oneLine } from "./words.ts";

/** A part of the context, in the order of its worth: what does not fit is cut from the end. */
export interface Section {
  title: string;
  text: string;
}

/** Characters in a token, roughly, for the languages of Europe. */
const CHARACTERS_PER_TOKEN = 4;

export const tokensOf = (text: string) => Math.ceil(text.length / CHARACTERS_PER_TOKEN);

/** Puts the sections into one text of at most so many tokens. */
export function fitted(sections: Section[], tokens: number): string {
  let room = tokens * CHARACTERS_PER_TOKEN;
  const parts: string[] = [];
  for (const { title, text } of sections) {
    const body = text.trim();
    const head = `## ${title}\n`;
    if (body === "" || room < head.length + 40) continue;
    const kept = head + cut(body, room - head.length - 2);
    parts.push(kept);
    room -= kept.length + 2;
  }
  return parts.join("\n\n");
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, Math.max(length - 2, 0)).trimEnd()} …`;
}

/** The last turns of a conversation, newest kept, oldest first. */
export function conversationText(
  messages: { role: string; text: string }[],
  charactersMax: number,
): string {
  const lines: string[] = [];
  let used = 0;
  for (const { role, text } of messages.toReversed()) {
    const line = `${role}: ${cut(oneLine(text), 400)}`;
    if (used + line.length > charactersMax) break;
    lines.unshift(line);
    used += line.length + 1;
  }
  return lines.join("\n");
}

/** Earlier calls with one person: those that are over. */
export function earlierCalls(calls: PastCall[]): string {
  return calls
    .filter(({ state }) => state === "ended")
    .map(({ at, direction, seconds, end_reason: reason }) => {
      const lasted = seconds === null ? undefined : `lasted ${duration(seconds * 1000)}`;
      return `- ${[at, direction, lasted, reason].filter(Boolean).join(", ")}`;
    })
    .join("\n");
}

/** What is being worked on, a line each. */
export function taskList(tasks: string[]): string {
  return tasks.map((task) => `- ${cut(oneLine(task), 200)}`).join("\n");
}

/** Whether a message of a session was written by this plugin. */
export function isOfPhone(text: string): boolean {
  return text.startsWith("[on the phone") || text.startsWith("[Phone call");
}
