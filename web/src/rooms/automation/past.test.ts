import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";

import { AlarmSpellSchema } from "../../gen/pollux/v1/automation_pb";
import { lanes, lasting } from "./past";

test("a length of time has its two largest units", () => {
  expect([undefined, 4200, 59_000, 65_000, 3_900_000, 200_000_000].map(lasting)).toEqual(["–", "4.2 s", "59 s", "1 min 05 s", "1 h 05 min", "2 d 07 h"]);
});

test("spells are laid into the span: what began before, what goes on, what was acknowledged", () => {
  const spell = (alarm: string, raised: number, seen?: number, cleared?: number) =>
    create(AlarmSpellSchema, {
      alarm,
      raiseTime: timestampFromMs(raised),
      acknowledgeTime: seen === undefined ? undefined : timestampFromMs(seen),
      clearTime: cleared === undefined ? undefined : timestampFromMs(cleared),
    });
  const got = lanes([spell("p/a", 1500), spell("p/b", 500, 1200, 1750), spell("p/a", 1100, undefined, 1200)], 1000, 2000);
  expect(got.map((l) => l.alarm)).toEqual(["p/a", "p/b"]);
  expect(got[0]?.stretches.map((s) => [s.left, s.width, s.open])).toEqual([
    [50, 50, true],
    [10, 10, false],
  ]);
  expect(got[1]?.stretches.map((s) => [s.left, s.width, s.seen, s.open])).toEqual([[0, 75, 20, false]]);
});
