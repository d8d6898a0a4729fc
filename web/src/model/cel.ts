/** A mistake in an expression: where it is, both from 1, and what. */
export interface CelMistake {
  line: number;
  column: number;
  text: string;
}

/** Finds in the node's sentence where an expression is wrong: `… 1:7: undeclared reference to 'valu'`. The first one, where there are many. */
export function mistakeOf(said: string): CelMistake | undefined {
  const found = /(?:^|[^\d])(\d+):(\d+): +([^\n]*)/.exec(said);
  if (!found) return undefined;
  return { line: Number(found[1]), column: Number(found[2]), text: (found[3] ?? "").replace(/ \(in container '[^']*'\)/, "").trim() };
}

/** Index in the text of a line and column. */
export function indexOf(text: string, { line, column }: { line: number; column: number }): number {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((n, l) => n + l.length + 1, 0);
  return Math.min(before + Math.max(0, column - 1), text.length);
}
