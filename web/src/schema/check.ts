import type { JsonObject, JsonValue } from "@bufbuild/protobuf";

import { choices, kindOf, memberAt, type Problems, type Schema } from "./types";

/** What is wrong with a value before it is sent. The node has the last word: this only spares a round trip. */
export function check(schema: Schema, value: JsonValue | undefined): Problems {
  const problems: Problems = {};
  visit(schema, value, "", problems);
  return problems;
}

function visit(schema: Schema, value: JsonValue | undefined, path: string, problems: Problems) {
  if (value === undefined) return;
  const wrong = scalar(schema, value);
  if (wrong) {
    problems[path] = wrong;
    return;
  }
  if (Array.isArray(value)) {
    value.forEach((item, i) => visit(memberAt(schema, i), item, `${path}/${i}`, problems));
  } else if (typeof value === "object" && value !== null) {
    object(schema, value, path, problems);
  }
}

function object(schema: Schema, value: JsonObject, path: string, problems: Problems) {
  for (const name of schema.required ?? []) {
    if (value[name] === undefined) problems[`${path}/${name}`] = "is needed";
  }
  for (const [name, part] of Object.entries(schema.properties ?? {})) visit(part, value[name], `${path}/${name}`, problems);
}

function scalar(schema: Schema, value: JsonValue): string | undefined {
  const listed = choices(schema);
  if (listed) {
    return listed.some((c) => JSON.stringify(c.value) === JSON.stringify(value)) ? undefined : "is none of the choices";
  }
  if (value === null && Array.isArray(schema.type) && schema.type.includes("null")) return undefined;
  switch (kindOf(schema)) {
    case "number":
    case "integer":
      return numeric(schema, value);
    case "string":
      return textual(schema, value);
    case "boolean":
      return typeof value === "boolean" ? undefined : "must be on or off";
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value) ? undefined : "must be an object";
    case "array":
      return listing(schema, value);
    default:
      return undefined;
  }
}

function numeric(schema: Schema, value: JsonValue): string | undefined {
  if (typeof value !== "number") return "must be a number";
  if (kindOf(schema) === "integer" && !Number.isInteger(value)) return "must be a whole number";
  if (schema.minimum !== undefined && value < schema.minimum) return `must be ${schema.minimum} or more`;
  if (schema.maximum !== undefined && value > schema.maximum) return `must be ${schema.maximum} or less`;
  if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum) return `must be more than ${schema.exclusiveMinimum}`;
  if (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum) return `must be less than ${schema.exclusiveMaximum}`;
  return undefined;
}

function textual(schema: Schema, value: JsonValue): string | undefined {
  if (typeof value !== "string") return "must be text";
  const length = [...value].length;
  if (schema.minLength !== undefined && length < schema.minLength) return `needs ${schema.minLength} characters or more`;
  if (schema.maxLength !== undefined && length > schema.maxLength) return `takes ${schema.maxLength} characters at most`;
  if (schema.pattern !== undefined && !matches(schema.pattern, value)) return `does not match ${schema.pattern}`;
  return undefined;
}

function matches(pattern: string, value: string): boolean {
  try {
    return new RegExp(pattern, "u").test(value);
  } catch {
    // A pattern of another dialect: the node judges.
    return true;
  }
}

function listing(schema: Schema, value: JsonValue): string | undefined {
  if (!Array.isArray(value)) return "must be a list";
  if (schema.minItems !== undefined && value.length < schema.minItems) return `needs ${schema.minItems} entries or more`;
  if (schema.maxItems !== undefined && value.length > schema.maxItems) return `takes ${schema.maxItems} entries at most`;
  return undefined;
}
