import { expect, test } from "vitest";

import { ticks } from "./ticks";

test("ticks are clocks of 24 hours, and the day where one begins", () => {
  const at = (text: string) => new Date(text).getTime() / 1000;
  expect(ticks([at("2026-11-21T22:00:00"), at("2026-11-21T23:00:00"), at("2026-11-22T00:00:00")], 3600)).toEqual(["22:00", "23:00", "22 Nov"]);
  expect(ticks([at("2026-11-21T13:00:15")], 15)).toEqual(["13:00:15"]);
  expect(ticks([at("2026-11-21T00:00:00"), at("2026-11-23T00:00:00")], 2 * 86_400)).toEqual(["21 Nov", "23 Nov"]);
});
