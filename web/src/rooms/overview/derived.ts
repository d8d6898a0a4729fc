import type { LineData } from "../../chart/Lines";
import type { Model as ModelRecord } from "../../gen/pollux/v1/model_pb";

interface Thing {
  properties?: Record<string, { type?: string; "pollux:derived"?: string }>;
}

/** The models with numbers that are computed of other twins, and the names of these. */
export function derived(records: readonly Pick<ModelRecord, "id" | "thingJson">[]): { model: string; properties: string[] }[] {
  return records.flatMap(({ id, thingJson }) => {
    const { properties = {} } = JSON.parse(thingJson) as Thing;
    const names = Object.entries(properties).flatMap(([name, p]) => (p["pollux:derived"] && (p.type === "number" || p.type === "integer") ? [name] : []));
    return names.length ? [{ model: id, properties: names }] : [];
  });
}

/** Where a chart of the latest begins, in seconds: with its first value where that is younger, but never less than two minutes before its end. */
export function begin(lines: readonly Pick<LineData, "times">[], from: number, to: number): number {
  const first = Math.min(...lines.flatMap((l) => l.times.slice(0, 1)));
  return Math.max(from, Math.min(first, to - 120));
}
