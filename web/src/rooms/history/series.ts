/** A property of a twin. */
export interface SeriesId {
  twin: string;
  property: string;
}

/** Series as a word of the address: `project/name:property`, with commas between. */
export function parse(word: string): SeriesId[] {
  return word.split(",").flatMap((one) => {
    const at = one.indexOf(":");
    return at > 0 && at < one.length - 1 ? [{ twin: one.slice(0, at), property: one.slice(at + 1) }] : [];
  });
}

export function format(list: readonly SeriesId[]): string {
  return list.map((s) => `${s.twin}:${s.property}`).join(",");
}

interface Line {
  label: string;
  unit: string;
  times: readonly number[];
  values: readonly (number | null)[];
}

/** Lines as a table with a row for each time, the form that spreadsheets read. */
export function csv(lines: readonly Line[]): string {
  const cell = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = new Map<number, (number | null)[]>();
  lines.forEach((line, i) =>
    line.times.forEach((t, j) => {
      const row = rows.get(t) ?? lines.map(() => null);
      row[i] = line.values[j] ?? null;
      rows.set(t, row);
    }),
  );
  const head = ["time", ...lines.map((l) => cell(l.unit ? `${l.label} [${l.unit}]` : l.label))].join(",");
  const body = [...rows].sort(([a], [b]) => a - b).map(([t, row]) => [new Date(t * 1000).toISOString(), ...row.map((v) => v ?? "")].join(","));
  return [head, ...body, ""].join("\n");
}
