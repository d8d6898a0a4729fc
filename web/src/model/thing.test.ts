import { expect, test } from "vitest";

import { inOrder, parseModel, words } from "./thing";

test("a model keeps its order and says what can be set", () => {
  const model = parseModel(
    JSON.stringify({
      title: "Lamp",
      properties: {
        power: { type: "boolean" },
        lamp_hours: { type: "integer", unit: "h", readOnly: true },
        name: { type: "string", title: "Its name", readOnly: true },
      },
      actions: { refresh: {}, power: { input: { type: "boolean" } }, blink: { input: {} } },
    }),
  );
  expect(model?.properties.map((p) => [p.name, p.title, p.writable, p.numeric])).toEqual([
    ["power", "Power", true, true],
    ["lamp_hours", "Lamp hours", false, true],
    ["name", "Its name", false, false],
  ]);
  expect(model?.actions.map((a) => a.input !== undefined)).toEqual([false, true, false]);
});

test("what is no model is none", () => {
  for (const json of [undefined, "", "[]", "nonsense", "3"]) expect(parseModel(json)).toBeUndefined();
});

test("names become words", () => {
  expect(words("lampHours")).toBe("Lamp hours");
  expect(words("energy_today-total")).toBe("Energy today total");
});

test("a refined model takes its driver's order", () => {
  const named = (names: string) => names.split(" ").map((name) => ({ name }));
  expect(inOrder(named("a b new power z"), named("power z b a"))).toEqual(named("power z b a new"));
  expect(inOrder(named("b a"), undefined)).toEqual(named("b a"));
});
