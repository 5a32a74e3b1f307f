/** Every subject and name on the bus that this plugin uses; nobody else writes a dot. */

export const STREAM_EVENT = "VOICE_EVENT";
export const EVENTS_ALL = "voice.event.>";

/** The router's and egress's micro services. */
export const service = {
  calls: "voice.svc.calls.list",
  callers: "voice.svc.callers.get",
  command: "voice.svc.commands.get",
  egress: "voice.svc.egress.status",
} as const;

/** All events of a call or a command. */
export const eventsOf = (subject: string) => `voice.event.${token(subject)}.>`;

/** What becomes of a command. */
export const outcomesOf = (intent: string) => `voice.event.${token(intent)}.*.command.*`;

/** What is asked of voicebus: `dial`, `hangup`, `say`, `context`, `link`, `unlink`. */
export const command = (verb: string, key: string) => `voice.cmd.${verb}.${token(key)}`;

/** Whether a text is an id as voicebus has them, and so may stand in a subject. */
export const isId = (text: string) => /^[A-Za-z0-9_-]{1,128}$/.test(text);

function token(text: string): string {
  if (!isId(text)) throw new Error(`${JSON.stringify(text)} is not an id of voicebus`);
  return text;
}
