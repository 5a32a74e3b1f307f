import { randomUUID } from "node:crypto";
import { explain } from "../explain.ts";
import type { Service } from "../service.ts";
import { link, voiceCalls } from "../tools/look.ts";
import { type Bench, numberOf, textOf } from "../tools/tool.ts";

/** A method of the gateway for people: what it answers, and what it needs. */
export interface Method {
  name: string;
  scope: "operator.read" | "operator.write";
  run(service: Service, params: Record<string, unknown>): Promise<unknown>;
}

export const methods: Method[] = [
  {
    name: "voicebus.status",
    scope: "operator.read",
    run: async (service) => ({
      ...(await service.status()),
      voiceServer: await voiceServer(service),
    }),
  },
  {
    name: "voicebus.calls",
    scope: "operator.read",
    run: async (service, params) => await voiceCalls.run(benchOf(service), NOBODY, params),
  },
  {
    name: "voicebus.link",
    scope: "operator.write",
    run: async (service, params) =>
      await link(
        benchOf(service),
        `oc-${randomUUID()}`,
        numberOf(params, "number"),
        textOf(params, "session") ?? "",
      ),
  },
  {
    name: "voicebus.unlink",
    scope: "operator.write",
    run: async (service, params) =>
      await link(benchOf(service), `oc-${randomUUID()}`, numberOf(params, "number"), undefined),
  },
];

const NOBODY = { sessionKey: undefined, toolCallId: "" };

/** What tools work with. */
export function benchOf(service: Service): Bench {
  return {
    settings: service.settings,
    ledger: service.ledger,
    requests: () => service.requests(),
    readLog: async (subject) => await service.log(subject),
  };
}

async function voiceServer(service: Service): Promise<string> {
  try {
    return (await service.requests().egress()).voice_server;
  } catch (error) {
    return explain(error);
  }
}
