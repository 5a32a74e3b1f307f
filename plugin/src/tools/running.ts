import type { Command } from "../bus/event.ts";
import { intentOf } from "../bus/requests.ts";
import { isId } from "../bus/subjects.ts";
import { sessionOf } from "./call.ts";
import { type Answer, type Tool, textOf } from "./tool.ts";

const CALL = { type: "string", description: "Id of the call, as voice_calls shows it" };

export const voiceHangup: Tool = {
  name: "voice_hangup",
  description: "End a telephone call that is going on.",
  parameters: {
    type: "object",
    additionalProperties: false,
    required: ["call"],
    properties: { call: CALL },
  },
  async run(bench, asker, params) {
    const call = textOf(params, "call") ?? "";
    if (!isId(call)) return no(`${JSON.stringify(call)} is no id of a call.`);
    const id = intentOf(asker.sessionKey ?? "", asker.toolCallId);
    const session = sessionOf(asker);
    const outcome = await bench
      .requests()
      .command("hangup", call, id, { id, ...(session ? { session } : {}) }, 20_000);
    const reason = outcome?.reason ? ` because ${outcome.reason}` : "";
    if (!outcome) {
      return {
        text: `Ending the call ${call} is queued. Look with voice_calls whether it is over.`,
        details: { status: "queued", call },
      };
    }
    switch (outcome.status) {
      case "confirmed":
        return { text: `The call ${call} is ended.`, details: { status: "ended", call } };
      case "refused":
        return no(`The call ${call} was not ended: refused${reason}.`);
      default:
        return no(`It is not known whether the call ${call} is over${reason}.`, outcome.status);
    }
  },
};

export const voiceSay: Tool = {
  name: "voice_say",
  description: "Have the assistant say something in a telephone call that is going on.",
  parameters: {
    type: "object",
    additionalProperties: false,
    required: ["call", "text"],
    properties: {
      call: CALL,
      text: { type: "string", maxLength: 2000, description: "The words to say" },
    },
  },
  async run(bench, asker, params) {
    const call = textOf(params, "call") ?? "";
    const text = textOf(params, "text");
    if (!isId(call) || !text) return no("A call and a text are needed.");
    const id = intentOf(asker.sessionKey ?? "", asker.toolCallId);
    return said(await bench.requests().command("say", call, id, { id, text }, 10_000), call);
  },
};

/** What an agent should make of an outcome. */
export function said(outcome: Command | undefined, call: string): Answer {
  const reason = outcome?.reason ? ` because ${outcome.reason}` : "";
  switch (outcome?.status) {
    case "confirmed":
      return { text: "It is being said.", details: { status: "confirmed", call } };
    case "refused":
      return no(`Not said: refused${reason}.`);
    case "expired":
      return no(`Not said: it could not be said in time${reason}.`, "expired");
    case undefined:
      return no("It is queued, and said within half a minute or not at all.", "queued");
    default:
      return no(
        `It is not known whether it was said${reason}. Look with voice_calls before you repeat it.`,
        outcome?.status,
      );
  }
}

function no(text: string, status = "refused"): Answer {
  return { text, details: { status } };
}
