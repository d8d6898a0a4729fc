import { expect, test } from "vitest";

import { hold, join, stepOf } from "./series";

const p = (time: number, value: number) => ({ time, value });

test("history and live points become one line without repeats", () => {
  expect(join([p(1, 10), p(2, 20)], [p(2, 20), p(4, 40), p(3, 30)])).toEqual([p(1, 10), p(2, 20), p(3, 30), p(4, 40)]);
});

test("the newest value holds until now", () => {
  expect(hold([p(5, 1)], 0, 9, undefined)).toEqual([p(5, 1), p(9, 1)]);
});

test("a value older than the window is a flat line", () => {
  expect(hold([], 100, 200, p(50, 7))).toEqual([p(100, 7), p(200, 7)]);
  expect(hold([], 100, 200, p(150, 7))).toEqual([p(150, 7), p(200, 7)]);
  expect(hold([], 100, 200, undefined)).toEqual([]);
});

test("long windows are asked in round steps", () => {
  expect(stepOf(900)).toBe(0);
  expect(stepOf(3600)).toBe(10);
  expect(stepOf(86_400)).toBe(300);
  for (const s of [1000, 3600, 86_400, 30 * 86_400]) expect(s / stepOf(s)).toBeLessThanOrEqual(600);
});
