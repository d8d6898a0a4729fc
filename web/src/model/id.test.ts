import { expect, test } from "vitest";

import { homeOf } from "./id";

test("a room of one project begins with one that is there", () => {
  expect(homeOf(["bar", "default"])).toBe("default");
  expect(homeOf(["bar", "hotel"])).toBe("bar");
  expect(homeOf([])).toBe("default");
});
