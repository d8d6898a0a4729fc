import { expect, test } from "vitest";

import { scheduleOf } from "./report";
import { readSchedule, write } from "./text";

test("a report is a schedule that notifies with a table for each format", () => {
  const made = scheduleOf(
    { name: "energy", notifier: "mail", properties: ["power"], model: "meter", twins: [], time: "07:00", weekdays: ["mon"], zone: "Europe/Berlin", hours: 24, stepMinutes: 60, aggregate: "avg", formats: ["csv", "html"] },
    "default/energy",
  );
  const text = write(made);
  expect(text).toContain("energy.csv");
  expect(text).toContain("energy.html");
  expect(text).toContain("TABLE_FORMAT_HTML");
  expect(text).toContain("86400s");
  expect(readSchedule(text, 0n)).toEqual(made);
});
