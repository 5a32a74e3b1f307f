/** An error and its causes, each said once, in one line. */
export function explain(error: unknown): string {
  const said: string[] = [];
  let next: unknown = error;
  while (next !== undefined && said.length < 5) {
    const text = next instanceof Error ? next.message || next.name : String(next);
    if (!said.some((earlier) => earlier.includes(text))) said.push(text);
    next = next instanceof Error ? next.cause : undefined;
  }
  return said.join(": ");
}
