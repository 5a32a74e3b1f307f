import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** A stand-in for a model on loopback: answers chat completions, and keeps what it was sent. */
export class StandInModel {
  /** The texts of each request, in order of its messages. */
  readonly requests: { role: string; text: string }[][] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<StandInModel> {
    const server = createServer();
    const model = new StandInModel(server);
    server.on("request", async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      if (request.method !== "POST") {
        response.end(
          JSON.stringify({ object: "list", data: [{ id: "stand-in", object: "model" }] }),
        );
        return;
      }
      const asked = JSON.parse(body);
      model.requests.push(
        (asked.messages ?? []).map((message: { role: string; content: unknown }) => ({
          role: message.role,
          text: textOf(message.content),
        })),
      );
      const text = `answer ${model.requests.length}`;
      const base = { id: "c1", created: 1, model: "stand-in" };
      if (asked.stream) {
        response.setHeader("Content-Type", "text/event-stream");
        for (const [delta, finish] of [
          [{ role: "assistant", content: text }, null],
          [{}, "stop"],
        ]) {
          const choices = [{ index: 0, delta, finish_reason: finish }];
          const chunk = { ...base, object: "chat.completion.chunk", choices };
          response.write(`data: ${JSON.stringify(chunk)}\n\n`);
        }
        response.end("data: [DONE]\n\n");
      } else {
        response.setHeader("Content-Type", "application/json");
        const message = { role: "assistant", content: text };
        const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
        const choices = [{ index: 0, message, finish_reason: "stop" }];
        response.end(JSON.stringify({ ...base, object: "chat.completion", choices, usage }));
      }
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return model;
  }

  /** The gateway's configuration that makes this the model of all agents. */
  get config(): { models: object; agents: object } {
    const { port } = this.#server.address() as AddressInfo;
    return {
      models: {
        mode: "replace",
        providers: {
          standin: {
            baseUrl: `http://127.0.0.1:${port}/v1`,
            apiKey: "none-needed",
            api: "openai-completions",
            models: [
              {
                id: "stand-in",
                name: "Stand-in",
                reasoning: false,
                input: ["text"],
                cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
                contextWindow: 128_000,
                maxTokens: 4096,
              },
            ],
          },
        },
      },
      agents: { model: { primary: "standin/stand-in" } },
    };
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => part?.text ?? "").join("\n");
}
