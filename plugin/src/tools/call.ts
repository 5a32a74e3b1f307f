import type { Command } from "../bus/event.ts";
import { intentOf } from "../bus/requests.ts";
import { shownNumber } from "../calls/words.ts";
import { type Dialled, whyNot } from "../dialling.ts";
import { agentOf } from "../session-key.ts";
import { type Answer, type Asker, type Bench, numberOf, type Tool, textOf } from "./tool.ts";

const KIND = "dial";
const DAY_MS = 24 * 3_600_000;
const WAIT_MS = 30_000;

export const voiceCall: Tool = {
  name: "voice_call",
  description:
    "Call a telephone number. Say what the call is for and the assistant's first words. The call " +
    "belongs to this session: what is said appears here, and you are told when it is over. Never " +
    "repeat a call whose outcome is unknown; ask a person.",
  parameters: {
    type: "object",
    additionalProperties: false,
    required: ["to", "purpose"],
    properties: {
      to: { type: "string", description: "Phone number, international: +12015550123" },
      purpose: { type: "string", maxLength: 4000, description: "What the call shall achieve" },
      opening_words: {
        type: "string",
        maxLength: 2000,
        description: "What is said first, when somebody picks up",
      },
      deadline_seconds: {
        type: "integer",
        minimum: 10,
        maximum: 3600,
        description: "After this time the phone is not rung any more",
      },
      wait: {
        type: "boolean",
        description: "Wait until the call is placed (default), or come back at once",
      },
    },
  },
  async run(bench, asker, params) {
    const to = numberOf(params, "to");
    const intent = intentOf(asker.sessionKey ?? "", asker.toolCallId);
    const shown = shownNumber(to, bench.settings.numbers);
    if (bench.ledger.recall(KIND, intent) === undefined) {
      const why = whyNot(to, dialledLately(bench), Date.now(), bench.settings.dialling);
      if (why) return answer("refused", intent, `Not called: ${why}`);
      // Before the command, so that a crash in between counts it rather than forgets it.
      bench.ledger.remember(KIND, intent, to);
    }
    const requests = bench.requests();
    const seconds = Number(params["deadline_seconds"] ?? bench.settings.dialling.deadlineSeconds);
    const session = sessionOf(asker);
    const wait = params["wait"] !== false;
    const opening = textOf(params, "opening_words");
    let command: Command | undefined;
    try {
      command = await requests.command(
        "dial",
        intent,
        intent,
        {
          intent,
          to,
          ...(opening ? { message: opening } : {}),
          ...(session ? { session } : {}),
          context: { purpose: textOf(params, "purpose") ?? "" },
          deadline: new Date(Date.now() + seconds * 1000).toISOString(),
        },
        wait ? WAIT_MS : 1,
      );
    } catch {
      return answer(
        "unclear",
        intent,
        `The call to ${shown} could not be handed over for certain. It may still be placed. Do not call again now; look with voice_calls first.`,
      );
    }
    return tell(command, intent, shown);
  },
};

/** What an agent should make of an outcome. */
export function tell(command: Command | undefined, intent: string, shown: string): Answer {
  const reason = command?.reason ? ` because ${command.reason}` : "";
  switch (command?.status) {
    case "confirmed":
      return answer(
        "placed",
        intent,
        `The call to ${shown} is placed (call ${command.call ?? "?"}). What is said appears in this session, and you are told when it is over. Do not call again for the same purpose meanwhile.`,
        command,
      );
    case "refused":
      return answer("refused", intent, `Not called: refused${reason}.`, command);
    case "expired":
      return answer(
        "expired",
        intent,
        "Not called: the deadline passed before it could be dialled.",
        command,
      );
    case "cancelled":
      return answer("cancelled", intent, "Not called: it was taken back.", command);
    case "unknown":
      return answer(
        "unknown",
        intent,
        `It is not known whether the phone rang${reason}. Do not dial again; ask a person.`,
        command,
      );
    default:
      return answer(
        "queued",
        intent,
        `The call to ${shown} is queued. Its outcome appears in this session. Do not call again for the same purpose.`,
      );
  }
}

function answer(status: string, intent: string, text: string, command?: Command): Answer {
  return { text, details: { status, intent, ...(command?.call ? { call: command.call } : {}) } };
}

function dialledLately(bench: Bench): Dialled[] {
  return bench.ledger
    .since(KIND, Date.now() - DAY_MS)
    .map(({ value, at }) => ({ number: value, at }));
}

/** The asking session, if it is one that a call can have. */
export function sessionOf(asker: Asker): string | undefined {
  const key = asker.sessionKey?.toLowerCase();
  return key && agentOf(key) !== undefined ? key : undefined;
}
