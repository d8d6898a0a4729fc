import type { JsonValue } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { check } from "./check";
import { choices, initial, kindOf, type Schema } from "./types";

const settings: Schema = {
  type: "object",
  required: ["host", "unit"],
  properties: {
    host: { type: "string", minLength: 1, pattern: "^[a-z.]+$" },
    unit: { type: "integer", minimum: 1, maximum: 247, default: 1 },
    mode: { enum: ["fast", "slow"] },
    tags: { type: "array", items: { type: "string", maxLength: 3 }, maxItems: 2 },
    deep: { type: "object", required: ["a"], properties: { a: { type: "number", exclusiveMinimum: 0 } } },
  },
};

test("a good value has no problems", () => {
  expect(check(settings, { host: "a.b", unit: 3, mode: "slow", tags: ["x"], deep: { a: 0.5 } })).toEqual({});
});

test.each([
  [{ unit: 1 }, "/host", "is needed"],
  [{ host: "a", unit: 0 }, "/unit", "must be 1 or more"],
  [{ host: "a", unit: 1.5 }, "/unit", "must be a whole number"],
  [{ host: "A", unit: 1 }, "/host", "does not match ^[a-z.]+$"],
  [{ host: "a", unit: 1, mode: "other" }, "/mode", "is none of the choices"],
  [{ host: "a", unit: 1, tags: ["long one"] }, "/tags/0", "takes 3 characters at most"],
  [{ host: "a", unit: 1, tags: ["a", "b", "c"] }, "/tags", "takes 2 entries at most"],
  [{ host: "a", unit: 1, deep: {} }, "/deep/a", "is needed"],
  [{ host: "a", unit: 1, deep: { a: 0 } }, "/deep/a", "must be more than 0"],
])("%j has a problem at %s", (value, path, problem) => {
  expect(check(settings, value)).toEqual({ [path]: problem });
});

const place: Schema = { type: "array", items: [{ type: "number", maximum: 90 }, { enum: ["N", "S"] }, { type: "array", items: [{ type: "boolean" }] }] };

test.each<[Schema, JsonValue, Record<string, string>]>([
  [place, [48.1, "N", [true, 5], "free"], {}],
  [place, [91, "E", [1]], { "/0": "must be 90 or less", "/1": "is none of the choices", "/2/0": "must be on or off" }],
  [{ ...place, additionalItems: { type: "string" } }, [48.1, "N", [], 5], { "/3": "must be text" }],
  [{ ...place, additionalItems: false }, [48.1, "N", [], 5], {}],
  [{ type: "array", prefixItems: [{ type: "integer" }], items: { type: "string" } }, [1, "a"], {}],
  [{ type: "array", prefixItems: [{ type: "integer" }], items: { type: "string" } }, ["a", 1], { "/0": "must be a number", "/1": "must be text" }],
  [{ type: "object", properties: { at: place } }, { at: ["x"] }, { "/at/0": "must be a number" }],
  [{ type: "array", items: { type: ["number", "null"] } }, [1, null], {}],
  [{ type: ["number", "null"] }, null, {}],
  [{ type: "number" }, null, { "": "must be a number" }],
])("each place of a list has its schema: %j, %j", (schema, value, problems) => {
  expect(check(schema, value)).toEqual(problems);
});

test("a pattern that the browser cannot read is left to the node", () => {
  expect(check({ type: "string", pattern: "(?i)abc(" }, "xyz")).toEqual({});
});

test("a form starts with the defaults and nothing else", () => {
  expect(initial(settings)).toEqual({ unit: 1, deep: {} });
});

test("kinds and choices", () => {
  expect(kindOf({ type: ["string", "null"] })).toBe("string");
  expect(kindOf({ type: ["string", "number"] })).toBe("json");
  expect(kindOf({ type: "array", items: { type: "object", properties: {} } })).toBe("json");
  expect(kindOf({ type: "array", items: { type: "string" } })).toBe("array");
  expect(kindOf({ type: "array", items: [{ type: "string" }] })).toBe("json");
  expect(kindOf({ type: "array", items: [], additionalItems: { type: "string" } })).toBe("array");
  expect(kindOf({ type: "array", prefixItems: [{ type: "number" }], items: { type: "string" } })).toBe("json");
  expect(kindOf({ type: "array", items: false })).toBe("json");
  expect(choices({ oneOf: [{ const: 1, title: "one" }, { const: 2 }] })).toEqual([
    { value: 1, label: "one" },
    { value: 2, label: "2" },
  ]);
  expect(choices({ oneOf: [{ type: "string" }] })).toBeUndefined();
});
