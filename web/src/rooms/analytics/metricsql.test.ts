import { expect, test } from "vitest";

import { named, readAnswer } from "./metricsql";

test("an answer is lines; what is no number is a gap", () => {
  const answer = { status: "success", data: { resultType: "matrix", result: [{ metric: { project: "default", twin: "lobby", property: "temperature" }, values: [[10, "21.5"], [20, "NaN"]] }] } };
  expect(readAnswer(200, JSON.stringify(answer))).toEqual({ count: 1, lines: [{ label: "lobby temperature", unit: "", colour: 0, times: [10, 20], values: [21.5, null] }] });
  expect(() => readAnswer(422, '{"status":"error","error":"unexpected token"}')).toThrow("unexpected token");
  expect(() => readAnswer(503, "this node's history is not complete yet\n")).toThrow("not complete yet");
});

test("a series is called by its labels", () => {
  expect(named({ __name__: "x", project: "p", model: "room" })).toBe("model=room");
  expect(named({})).toBe("all");
});
