import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

/** The part of JSON Schema (2020-12, and the lists of `items` of Thing Models) that forms understand. What else a schema asks for, the node checks. */
export interface Schema {
  type?: string | string[];
  title?: string;
  description?: string;
  default?: JsonValue;
  const?: JsonValue;
  enum?: JsonValue[];
  oneOf?: Schema[];
  format?: string;
  unit?: string;
  writeOnly?: boolean;
  readOnly?: boolean;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minItems?: number;
  maxItems?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema | Schema[] | boolean;
  prefixItems?: Schema[];
  additionalItems?: Schema | boolean;
  /** The expression that a property is computed by. */
  "pollux:derived"?: string;
}

/** Messages by JSON pointer; the root is the empty pointer. */
export type Problems = Record<string, string>;

/** A schema's one type, `enum` where it lists its values, `json` where a form cannot tell. */
export function kindOf(schema: Schema): "boolean" | "number" | "integer" | "string" | "object" | "array" | "enum" | "json" {
  if (choices(schema)) return "enum";
  const types = (Array.isArray(schema.type) ? schema.type : [schema.type]).filter((t) => t !== "null");
  const type = types.length === 1 ? types[0] : undefined;
  switch (type) {
    case "boolean":
    case "number":
    case "integer":
    case "string":
      return type;
    case "array":
      return ["string", "number", "integer"].includes(kindOf(memberOf(schema))) ? "array" : "json";
    case "object":
      return schema.properties ? "object" : "json";
    default:
      return schema.properties ? "object" : "json";
  }
}

/** The schemas of a list's first places, where each has its own. */
export function places(schema: Schema): Schema[] {
  return Array.isArray(schema.items) ? schema.items : (schema.prefixItems ?? []);
}

/** The schema of a list's members, but for those that have a place of their own; an empty one where the list says nothing of them, or that there are none. */
function rest(schema: Schema): Schema {
  const others = Array.isArray(schema.items) ? schema.additionalItems : schema.items;
  return typeof others === "object" && !Array.isArray(others) ? others : {};
}

/** The schema that all members of a list have; an empty one where they have none, or each its own. */
export function memberOf(schema: Schema): Schema {
  return places(schema).length > 0 ? {} : rest(schema);
}

/** The schema of a list's member. */
export function memberAt(schema: Schema, i: number): Schema {
  return places(schema)[i] ?? rest(schema);
}

/** The values that a schema allows, with what to call them; undefined where they are not listed. */
export function choices(schema: Schema): { value: JsonValue; label: string }[] | undefined {
  const values: { value: JsonValue; label: string }[] = [];
  if (schema.enum) {
    for (const value of schema.enum) values.push({ value, label: text(value) });
    return values;
  }
  if (!schema.oneOf?.length) return undefined;
  for (const option of schema.oneOf) {
    if (option.const === undefined) return undefined;
    values.push({ value: option.const, label: option.title ?? text(option.const) });
  }
  return values;
}

function text(value: JsonValue): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The value that a new form starts with: the schema's defaults, and nothing else. */
export function initial(schema: Schema): JsonValue | undefined {
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (kindOf(schema) !== "object") return undefined;
  const value: JsonObject = {};
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    const v = initial(part);
    if (v !== undefined) value[name] = v;
  }
  return value;
}
