import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";

import { FiringSchema, FiringState } from "../../gen/pollux/v1/automation_pb";
import { clockOf, entries, monthOf, shiftMonth, weekOf } from "./days";

test("weeks begin on Monday, and a month is whole weeks", () => {
  expect(weekOf("2026-11-22")[0]).toBe("2026-11-16");
  const november = monthOf("2026-11-21");
  expect([november[0], november.at(-1), november.length]).toEqual(["2026-10-26", "2026-12-06", 42]);
  const february = monthOf("2027-02-10");
  expect([february[0], february.at(-1)]).toEqual(["2027-02-01", "2027-02-28"]);
  expect(shiftMonth("2026-12-31", 2)).toBe("2027-02-28");
  expect(shiftMonth("2026-01-15", -1)).toBe("2025-12-15");
});

test("a clock shows the night when it is set", () => {
  const berlin = clockOf("Europe/Berlin");
  expect(berlin(Date.parse("2026-03-29T01:30:00Z"))).toEqual({ day: "2026-03-29", hour: 3, time: "03:30" });
  expect(berlin(Date.parse("2026-10-24T22:00:00Z"))).toEqual({ day: "2026-10-25", hour: 0, time: "00:00" });
});

test("what is of one schedule stands together, and the worst of it shows", () => {
  const firing = (schedule: string, time: string, state: FiringState) => create(FiringSchema, { schedule, state, time: timestampFromMs(Date.parse(time)) });
  const utc = clockOf("UTC");
  const cells = entries(
    [
      firing("a", "2026-11-21T09:00:00Z", FiringState.DONE),
      firing("b", "2026-11-21T08:00:00Z", FiringState.LEFT_OUT),
      firing("a", "2026-11-21T07:00:00Z", FiringState.FAILED),
      firing("a", "2026-11-22T07:00:00Z", FiringState.PLANNED),
    ],
    (ms) => utc(ms).time,
    (ms) => (utc(ms).day === "2026-11-21" ? "cell" : undefined),
  );
  expect([...cells.keys()]).toEqual(["cell"]);
  expect(cells.get("cell")?.map((e) => [e.first.schedule, e.time, e.count, e.state])).toEqual([
    ["a", "07:00", 2, FiringState.FAILED],
    ["b", "08:00", 1, FiringState.LEFT_OUT],
  ]);
});
