import { join } from "node:path";
import { definePluginEntry } from "openclaw/plugin-sdk/plugin-entry";
import { Gateway, type Logger, type PluginRuntime } from "./gateway.ts";
import { Service } from "./service.ts";

interface Api {
  pluginConfig?: unknown;
  runtime: PluginRuntime;
  registerService(service: {
    id: string;
    reload?: { configPrefixes: readonly string[] };
    start(context: ServiceContext): Promise<void>;
    stop(context: ServiceContext): Promise<void>;
  }): void;
  registerGatewayMethod(
    name: string,
    handler: (request: { params?: unknown; respond: Respond }) => Promise<void>,
    options: { scope: string; profileAccess?: string },
  ): void;
}
type Respond = (ok: boolean, payload?: unknown, error?: unknown) => void;
interface ServiceContext {
  config?: { plugins?: { entries?: Record<string, { config?: unknown }> } };
  stateDir: string;
  logger: Logger;
  serviceHealth?: { reportFailure(error: unknown): void; clearFailure(): void };
}

export default definePluginEntry({
  id: "voicebus",
  name: "voicebus",
  description: "Phone calls in sessions, and agents that call",
  register(api: Api) {
    let running: Service | undefined;
    api.registerService({
      id: "voicebus",
      reload: { configPrefixes: ["plugins.entries.voicebus"] },
      async start(context) {
        running = new Service({
          config: api.pluginConfig,
          gateway: new Gateway(api.runtime),
          ledgerPath: join(context.stateDir, "voicebus", "ledger.sqlite"),
          logger: context.logger,
          health: context.serviceHealth,
        });
        running.start();
      },
      async stop() {
        await running?.stop();
        running = undefined;
      },
    });
    api.registerGatewayMethod(
      "voicebus.status",
      async ({ respond }) => respond(true, (await running?.status()) ?? { state: "stopped" }),
      { scope: "operator.read", profileAccess: "independent" },
    );
  },
});
