/** Where the plugin meets the gateway: everything it registers is on this screen. */

import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import { explain } from "./explain.ts";
import { Gateway, type Logger, type PluginRuntime } from "./gateway.ts";
import { type Command, registerCommands } from "./people/cli.ts";
import { benchOf, methods } from "./people/methods.ts";
import { Service } from "./service.ts";
import { voiceCall } from "./tools/call.ts";
import { voiceCalls, voiceLink } from "./tools/look.ts";
import { voiceHangup, voiceSay } from "./tools/running.ts";

const ID = "voicebus";
const TOOLS = [voiceCall, voiceHangup, voiceSay, voiceCalls, voiceLink];

export default definePluginEntry({
  id: ID,
  name: "voicebus",
  description: "Phone calls in sessions, and agents that call",
  register(api: Api) {
    let running: Service | undefined;
    let unsubscribe: (() => void) | undefined;
    const service = () => {
      if (!running)
        throw new Error("the voicebus plugin is not running; see openclaw voicebus status");
      return running;
    };

    api.registerService({
      id: ID,
      reload: { configPrefixes: [`plugins.entries.${ID}`] },
      async start(context) {
        const config = context.config?.plugins?.entries?.[ID]?.config ?? api.pluginConfig;
        running = new Service({
          config,
          gateway: new Gateway(api.runtime),
          ledgerPath: join(context.stateDir, ID, "ledger.sqlite"),
          logger: context.logger,
          health: context.serviceHealth,
        });
        const { briefing } = running;
        unsubscribe = context.gatewayEvents?.onSessionsChanged(({ sessionKey }) =>
          briefing.sessionChanged(sessionKey),
        );
        running.start();
      },
      async stop() {
        unsubscribe?.();
        const stopping = running;
        running = undefined;
        await stopping?.stop();
      },
    });

    for (const tool of TOOLS) {
      api.registerTool(
        ({ sessionKey }) => ({
          name: tool.name,
          label: tool.name,
          description: tool.description,
          parameters: tool.parameters,
          async execute(toolCallId, params) {
            const { text, details } = await tool.run(
              benchOf(service()),
              { sessionKey, toolCallId },
              params,
            );
            return { content: [{ type: "text", text }], details };
          },
        }),
        { name: tool.name },
      );
    }

    for (const method of methods) {
      api.registerGatewayMethod(
        method.name,
        async ({ params, respond }) => {
          try {
            respond(true, await method.run(service(), params ?? {}));
          } catch (error) {
            respond(false, undefined, { code: "UNAVAILABLE", message: explain(error) });
          }
        },
        { scope: method.scope, profileAccess: "independent" },
      );
    }

    api.registerHttpRoute({
      path: "/voicebus/status",
      auth: "gateway",
      match: "exact",
      async handler(_request, response) {
        const status = running ? await running.status() : { state: "stopped" };
        response.statusCode = status.state === "working" ? 200 : 503;
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify(status));
        return true;
      },
    });

    api.registerCli(({ program }) => registerCommands(program), {
      descriptors: [
        {
          name: ID,
          description: "Phone calls of voicebus: status, calls, links",
          hasSubcommands: true,
        },
      ],
    });
  },
});

/** The part of the gateway's plugin API that is used. */
interface Api {
  pluginConfig?: unknown;
  runtime: PluginRuntime;
  registerService(service: {
    id: string;
    reload?: { configPrefixes: readonly string[] };
    start(context: ServiceContext): Promise<void>;
    stop(context: ServiceContext): Promise<void>;
  }): void;
  registerTool(
    tool: (context: { sessionKey?: string }) => {
      name: string;
      label: string;
      description: string;
      parameters: Record<string, unknown>;
      execute(toolCallId: string, params: Record<string, unknown>): Promise<unknown>;
    },
    options: { name: string },
  ): void;
  registerGatewayMethod(
    name: string,
    handler: (request: {
      params?: Record<string, unknown>;
      respond(ok: boolean, payload?: unknown, error?: unknown): void;
    }) => Promise<void>,
    options: { scope: string; profileAccess?: string },
  ): void;
  registerHttpRoute(route: {
    path: string;
    auth: "gateway";
    match: "exact";
    handler(request: unknown, response: ServerResponse): Promise<boolean>;
  }): void;
  registerCli(
    registrar: (context: { program: Command }) => void,
    options: { descriptors: { name: string; description: string; hasSubcommands: boolean }[] },
  ): void;
}

interface ServiceContext {
  config?: { plugins?: { entries?: Record<string, { config?: unknown }> } };
  stateDir: string;
  logger: Logger;
  serviceHealth?: { reportFailure(error: unknown): void; clearFailure(): void };
  gatewayEvents?: {
    onSessionsChanged(listen: (event: { sessionKey: string }) => void): () => void;
  };
}
