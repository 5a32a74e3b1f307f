/** Whether an agent may dial a number now. Pure: what was dialled and the time are arguments. */

import type { Settings } from "./settings.ts";

/** A dial that an agent asked for. */
export interface Dialled {
  number: string;
  at: number;
}

const HOUR_MS = 3_600_000;

/** A sentence that says why not, or `undefined`. */
export function whyNot(
  number: string,
  dialled: Dialled[],
  now: number,
  rules: Settings["dialling"],
): string | undefined {
  if (!/^\+[1-9]\d{6,14}$/.test(number)) {
    return `${JSON.stringify(number)} is no phone number in international form such as +12015550123.`;
  }
  if (!rules.allowed) {
    return "agents may not place calls here: a person must set plugins.entries.voicebus.config.dialling.allowed to true.";
  }
  if (!rules.numbers.some((pattern) => matches(pattern, number))) {
    return "the number is not in the list of numbers that may be called (dialling.numbers).";
  }
  const since = (ms: number) => dialled.filter(({ at }) => at > now - ms);
  if (since(HOUR_MS).length >= rules.perHour) {
    return `the limit of ${rules.perHour} calls in an hour is reached.`;
  }
  const today = since(24 * HOUR_MS);
  if (today.length >= rules.perDay)
    return `the limit of ${rules.perDay} calls in a day is reached.`;
  if (today.filter((other) => other.number === number).length >= rules.perNumberPerDay) {
    return `this number was called ${rules.perNumberPerDay} times in a day already, which is the limit.`;
  }
  return undefined;
}

/** `+12015550123` is one number, `+1201*` all that begin so, `*` all. */
function matches(pattern: string, number: string): boolean {
  return pattern.endsWith("*") ? number.startsWith(pattern.slice(0, -1)) : pattern === number;
}
