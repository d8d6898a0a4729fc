/** `key=value` each, as a map. */
export function labelsOf(list: string[]): Record<string, string> {
  return Object.fromEntries(list.map((l) => [l.slice(0, l.indexOf("=")).trim(), l.slice(l.indexOf("=") + 1).trim()]));
}

/** The same as a list of `key=value`. */
export function listOf(labels: Record<string, string>): string[] {
  return Object.entries(labels).map(([k, v]) => `${k}=${v}`);
}
