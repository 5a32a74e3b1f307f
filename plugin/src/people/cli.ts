import { addGatewayClientOptions, callGatewayFromCli } from "openclaw/plugin-sdk/gateway-runtime";

/** The part of Commander that is used. */
export interface Command {
  command(name: string): Command;
  description(text: string): Command;
  option(flags: string, description: string): Command;
  action(act: (...args: unknown[]) => Promise<void>): Command;
}

/** `openclaw voicebus …`: asks the running gateway. */
export function registerCommands(program: Command): void {
  const root = program
    .command("voicebus")
    .description("Phone calls of voicebus: status, calls, links");

  add(root, "status", "How the plugin and voicebus are", "voicebus.status", () => ({}));
  add(
    root,
    "calls [call]",
    "The latest calls, or one with what was said",
    "voicebus.calls",
    ([call], options) => ({
      ...(call ? { call } : {}),
      ...(options["active"] ? { active: true } : {}),
    }),
  ).option("--active", "Only calls that are going on");
  add(
    root,
    "link <number> <session>",
    "Let calls from a number go to a session",
    "voicebus.link",
    ([number, session]) => ({ number, session }),
  );
  add(root, "unlink <number>", "Undo a link", "voicebus.unlink", ([number]) => ({ number }));
}

function add(
  root: Command,
  usage: string,
  description: string,
  method: string,
  paramsOf: (args: unknown[], options: Record<string, unknown>) => Record<string, unknown>,
): Command {
  const command = root.command(usage).description(description).option("--json", "Print JSON");
  addGatewayClientOptions(command);
  return command.action(async (...given) => {
    // Commander gives the arguments, then the options, then the command.
    const options = given.at(-2) as Record<string, unknown>;
    const answer = await callGatewayFromCli(method, options, paramsOf(given.slice(0, -2), options));
    console.log(options["json"] ? JSON.stringify(answer, null, 2) : readable(answer));
  });
}

/** An answer for people: its sentence if it has one, else name and value by line. */
export function readable(answer: unknown): string {
  if (typeof answer !== "object" || answer === null) return String(answer);
  const { text } = answer as { text?: unknown };
  if (typeof text === "string") return text;
  return Object.entries(answer)
    .map(([name, value]) => `${name.padEnd(16)}${inLine(value)}`)
    .join("\n");
}

function inLine(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([name, inner]) => `${name} ${String(inner)}`)
    .join(", ");
}
