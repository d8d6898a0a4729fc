import { expect, test } from "vitest";

import { derived } from "./derived";

test("the computed numbers of models", () => {
  const house = { id: "demo/house", thingJson: '{"properties":{"power":{"type":"number","pollux:derived":"1+1"},"name":{"type":"string","pollux:derived":"x"},"level":{"type":"number"}}}' };
  expect(derived([house, { id: "demo/plain", thingJson: "{}" }])).toEqual([{ model: "demo/house", properties: ["power"] }]);
});
