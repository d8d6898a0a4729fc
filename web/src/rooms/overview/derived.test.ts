import { expect, test } from "vitest";

import { begin, derived } from "./derived";

test("the computed numbers of models", () => {
  const house = { id: "demo/house", thingJson: '{"properties":{"power":{"type":"number","pollux:derived":"1+1"},"name":{"type":"string","pollux:derived":"x"},"level":{"type":"number"}}}' };
  expect(derived([house, { id: "demo/plain", thingJson: "{}" }])).toEqual([{ model: "demo/house", properties: ["power"] }]);
});

test("a chart of the latest begins with the first value there is", () => {
  expect(begin([], 0, 900)).toBe(780);
  expect(begin([{ times: [] }, { times: [300, 400] }, { times: [200] }], 0, 900)).toBe(200);
  expect(begin([{ times: [890] }], 0, 900)).toBe(780);
  expect(begin([{ times: [-5] }], 0, 900)).toBe(0);
});
