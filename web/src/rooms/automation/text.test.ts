import { create, fromJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { RuleSchema, ScheduleSchema } from "../../gen/pollux/v1/automation_pb";
import { readRule, readSchedule, write } from "./text";

const rule = fromJson(RuleSchema, {
  id: "default/hot",
  when: [{ property: { of: { twins: ["lobby"] }, names: ["temperature"] } }],
  if: "value > 28.0",
  for: "300s",
  once_per: "3600s",
  then: [{ set: { to: { twin: "fan" }, property: "power", value: true } }],
});

test("a rule is text and a rule again, against the revision that was read", () => {
  const text = write(create(RuleSchema, { ...rule, revision: 7n, updateBy: "kim" }));
  expect(text).toContain("once_per: 3600s");
  expect(text).not.toContain("revision");
  expect(text).not.toContain("kim");
  expect(readRule(text, 7n)).toEqual(create(RuleSchema, { ...rule, revision: 7n }));
  expect(readRule(`rule:\n${text.replace(/^/gm, "  ")}`, 0n)).toEqual(rule);
});

test("JSON is read too, and what is no schedule is refused", () => {
  expect(readSchedule('{"id": "a", "timing": {"cron": "0 7 * * *"}}', 0n)).toEqual(fromJson(ScheduleSchema, { id: "a", timing: { cron: "0 7 * * *" } }));
  expect(() => readSchedule("id: a\nwhenever: true", 0n)).toThrow(/whenever/);
  expect(() => readSchedule("7", 0n)).toThrow(/no schedule/);
});
