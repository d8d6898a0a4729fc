import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { DerivedStateSchema, DesiredSchema, Progress, TwinSubscriptionSchema } from "../../gen/pollux/v1/twin_pb";
import { derivation, followed, overQuota, waitsFor } from "./facts";

const desired = (revision: bigint, progress: Progress, waits = "") => create(DesiredSchema, { revision, progress, waitsFor: waits });

test("what a wish waits for is told of that wish only, and while it is open", () => {
  const read = desired(3n, Progress.ASKED, "the device sleeps");
  expect(waitsFor(desired(3n, Progress.SENT), read)).toBe("the device sleeps");
  expect(waitsFor(desired(4n, Progress.ASKED), read)).toBe("");
  expect(waitsFor(desired(3n, Progress.CONFIRMED), read)).toBe("");
  expect(waitsFor(desired(3n, Progress.ASKED, "its turn"), undefined)).toBe("its turn");
  expect(waitsFor(undefined, read)).toBe("");
});

test("quotas that were exceeded are named with how often", () => {
  expect(overQuota(undefined)).toBe("");
  expect(overQuota({ overQuota: { sends: 12n, logs: 3400n, calls: 0n } })).toBe("3\u202f400 log lines, 12 sends");
  expect(overQuota({ overQuota: { novel: 1n } })).toBe("1 novel");
});

test("what is followed leads to its twin, or names its system", () => {
  const of = (twin: string, system = "") => create(TwinSubscriptionSchema, { twin, system, property: "power" });
  expect(followed(of("lamp"), "house")).toEqual({ name: "lamp", path: "/twins/house/lamp" });
  expect(followed(of("house/lamp"), "house")).toEqual({ name: "lamp", path: "/twins/house/lamp" });
  expect(followed(of("Display_1", "house/aula"), "house")).toEqual({ name: "Display_1 in aula" });
});

test("a computed property says its formula, and why it has no value", () => {
  const of = (x: { error?: string; evaluations?: bigint }) => create(DerivedStateSchema, { expression: "avg(x)", ...x });
  expect(derivation(undefined, undefined, false)).toBeUndefined();
  expect(derivation(of({}), undefined, true)).toEqual({ formula: "avg(x)", why: "" });
  expect(derivation(of({ error: "a circle" }), undefined, true)?.why).toBe("a circle");
  expect(derivation(of({}), undefined, false)?.why).toBe("not computed yet");
  expect(derivation(of({ evaluations: 2n }), undefined, false)?.why).toBe("");
  expect(derivation(undefined, "sum(y)", false)).toEqual({ formula: "sum(y)", why: "the twin does not compute now" });
});
