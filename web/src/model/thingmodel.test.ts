import { expect, test } from "vitest";

import { blank, parseThing, rows, withoutRow, withRow } from "./thingmodel";

const doc = {
  title: "Room",
  properties: {
    temperature: { type: "number", unit: "Cel", readOnly: true, minimum: -40, "pollux:unit": "[degF]", "pollux:stale": 900 },
    door: { type: "boolean" },
  },
};

test("a list with a schema for each place stays as it is", () => {
  const place = { type: "array", items: [{ type: "number", unit: "deg" }, { type: "string" }], additionalItems: false };
  const thing = { properties: { place } };
  const [row] = rows(thing);
  if (!row) throw new Error("no row");
  expect(row).toMatchObject({ name: "place", type: "array", unit: "" });
  expect(withRow(thing, "place", { ...row, name: "at", path: "/pos" })).toEqual({ properties: { at: { ...place, "pollux:path": "/pos" } } });
});

test("rows show a property, and writing one back keeps what they do not show", () => {
  const [row] = rows(doc);
  if (!row) throw new Error("no row");
  expect(row).toMatchObject({ name: "temperature", unit: "Cel", writable: false, from: "[degF]", stale: "900", deadband: "" });
  expect(withRow(doc, "temperature", row)).toEqual(doc);
  const next = withRow(doc, "temperature", { ...row, name: "temp", deadband: "0.5", from: "", writable: true });
  expect(Object.entries(next.properties as object)).toEqual([
    ["temp", { type: "number", unit: "Cel", minimum: -40, "pollux:deadband": 0.5, "pollux:stale": 900 }],
    ["door", { type: "boolean" }],
  ]);
  expect(doc.properties.temperature["pollux:unit"]).toBe("[degF]");
});

test("a property comes and goes", () => {
  const added = withRow(doc, undefined, { ...rows(doc)[1]!, name: "window", stale: "soon" });
  expect(rows(added).map((r) => r.name)).toEqual(["temperature", "door", "window"]);
  expect(rows(added)[2]?.stale).toBe("soon");
  expect(withoutRow(added, "window")).toEqual(doc);
});

test("what is no object is no Thing Model", () => {
  for (const text of ["", "[]", "null", "7", "{"]) expect(parseThing(text)).toBeUndefined();
  expect(parseThing(blank)).toMatchObject({ "@type": "tm:ThingModel" });
});
