import { create, type JsonValue } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { PropertySchema } from "../gen/pollux/v1/twin_pb";
import { arranged, ranked } from "./rank";
import { readModel } from "./thing";
import { wrap } from "./value";

const state = (values: Record<string, JsonValue>) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, create(PropertySchema, { value: wrap(value) })]));

test("what can be set comes first, what only names things last", () => {
  const model = readModel({
    properties: {
      version: { type: "string", readOnly: true },
      uptime: { type: "integer", unit: "s", readOnly: true },
      level: { type: "integer" },
    },
  });
  const properties = state({ version: "13", uptime: 4, level: 3, power1: true, humidity: 40, color: "#fff" });
  expect(ranked(properties, model, 10).map((r) => r.name)).toEqual(["level", "power1", "humidity", "uptime", "color", "version"]);
  expect(ranked(properties, model, 2)).toHaveLength(2);
  expect(ranked(properties, model, 4)[3]?.unit).toBe("s");
});

test("without a model names decide", () => {
  expect(ranked(state({ b: 1, a: 2, c: true }), undefined, 9).map((r) => r.name)).toEqual(["c", "a", "b"]);
});

test("a unit's own relays and sensors come before what its driver's model tells of every unit", () => {
  const written = readModel({ properties: { version: { type: "string", readOnly: true }, uptime: { type: "integer", readOnly: true } } });
  const unit = readModel({
    properties: {
      color: { type: "string", readOnly: true },
      humidity: { type: "number", readOnly: true },
      power1: { type: "boolean" },
      uptime: { type: "integer", readOnly: true },
      version: { type: "string", readOnly: true },
    },
  });
  expect(arranged(unit, written).map((p) => p.name)).toEqual(["power1", "humidity", "color", "uptime", "version"]);
});
