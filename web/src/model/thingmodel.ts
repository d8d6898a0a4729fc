/** The part of a property of a Thing Model that the editor shows in a table; what else it says stays as it is. */
export interface PropertyRow {
  name: string;
  type: string;
  unit: string;
  writable: boolean;
  virtual: boolean;
  path: string;
  from: string;
  deadband: string;
  stale: string;
}

type Json = Record<string, unknown>;

/** What a new model begins with. */
export const blank = JSON.stringify(
  {
    "@context": ["https://www.w3.org/2022/wot/td/v1.1", { pollux: "https://pollux.dev/ns#" }],
    "@type": "tm:ThingModel",
    title: "",
    properties: {},
  },
  null,
  2,
);

/** Types that a property may have. */
export const types = ["number", "integer", "boolean", "string", "object", "array"];

/** The document, or undefined where the text is no object. */
export function parseThing(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}

const text = (v: unknown) => (typeof v === "string" ? v : typeof v === "number" ? String(v) : "");

/** The properties as rows, in the document's order. */
export function rows(thing: Json): PropertyRow[] {
  return Object.entries((thing.properties ?? {}) as Record<string, Json>).map(([name, p]) => ({
    name,
    type: text(p.type),
    unit: text(p.unit),
    writable: p.readOnly !== true,
    virtual: p["pollux:virtual"] === true,
    path: text(p["pollux:path"]),
    from: text(p["pollux:unit"]),
    deadband: text(p["pollux:deadband"]),
    stale: text(p["pollux:stale"]),
  }));
}

function put(to: Json, key: string, value: unknown, keep: boolean) {
  if (keep) to[key] = value;
  else Reflect.deleteProperty(to, key);
}

/** A text for a number's place: a number where it is one, or the text, which the node then refuses with the place. */
function numeric(value: string): unknown {
  const n = Number(value);
  return value.trim() !== "" && Number.isFinite(n) ? n : value;
}

/** The document with a property as the row says, its other members kept; was is its former name. */
export function withRow(thing: Json, was: string | undefined, row: PropertyRow): Json {
  const properties = (thing.properties ?? {}) as Record<string, Json>;
  const next: Json = { ...(was === undefined ? {} : properties[was]), type: row.type };
  put(next, "unit", row.unit, row.unit !== "");
  put(next, "readOnly", true, !row.writable);
  put(next, "pollux:virtual", true, row.virtual);
  put(next, "pollux:path", row.path, row.path !== "");
  put(next, "pollux:unit", row.from, row.from !== "");
  put(next, "pollux:deadband", numeric(row.deadband), row.deadband !== "");
  put(next, "pollux:stale", numeric(row.stale), row.stale !== "");
  const entries = Object.entries(properties).map(([name, p]): [string, Json] => (name === was ? [row.name, next] : [name, p]));
  if (was === undefined) entries.push([row.name, next]);
  return { ...thing, properties: Object.fromEntries(entries) };
}

/** The document without a property. */
export function withoutRow(thing: Json, name: string): Json {
  const properties = Object.entries((thing.properties ?? {}) as Record<string, Json>).filter(([n]) => n !== name);
  return { ...thing, properties: Object.fromEntries(properties) };
}
