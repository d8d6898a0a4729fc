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
