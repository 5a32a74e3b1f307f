/**
 * Session keys of OpenClaw, as far as this plugin lets them through. The gateway itself takes
 * almost any text for a key, line breaks too; what comes from the bus must not reach it unchecked.
 */
const SESSION_KEY = /^agent:([a-z0-9][a-z0-9_-]{0,63}):[a-z0-9:_-]{1,400}$/;

/** The agent that a session key names, or `undefined` for what is no key. */
export function agentOf(sessionKey: string): string | undefined {
  return SESSION_KEY.exec(sessionKey)?.[1];
}
