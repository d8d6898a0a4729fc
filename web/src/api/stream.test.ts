// @vitest-environment happy-dom
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { Link } from "./link";
import { backoff, keepStream } from "./stream";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test("the wait doubles, is bounded and spread", () => {
  expect([1, 2, 3, 4].map((n) => backoff(n, 0.5))).toEqual([500, 1000, 2000, 4000]);
  expect(backoff(30, 0.5)).toBe(15_000);
  expect(backoff(30, 1)).toBeLessThan(20_000);
  expect(backoff(1, 0)).toBe(350);
});

/** A stream that gives its messages and then fails, hangs or ends. */
async function* script(messages: string[], end: unknown, signal: AbortSignal) {
  yield* messages;
  if (end === "hang") await new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
  if (end instanceof Error) throw end;
}

test("it reconnects after failures and says so", async () => {
  const tries: [string[], unknown][] = [
    [["a"], new ConnectError("gone", Code.Unavailable)],
    [[], new ConnectError("gone", Code.Unavailable)],
    [["b"], "hang"],
  ];
  const got: string[] = [];
  const states: Link["state"][] = [];
  let opened = 0;
  const stop = keepStream<string>({
    name: "test",
    open: (signal) => script(...(tries[opened++] as [string[], unknown]), signal),
    message: (m) => got.push(m),
    state: (link) => states.push(link.state),
  });
  await vi.advanceTimersByTimeAsync(20_000);
  expect(got).toEqual(["a", "b"]);
  expect(opened).toBe(3);
  expect(states).toEqual(["connecting", "live", "offline", "live"]);
  stop();
});

test("silence counts as loss", async () => {
  let opened = 0;
  const stop = keepStream<string>({
    name: "test",
    idle: 5000,
    open: (signal) => {
      opened++;
      return script(["a"], "hang", signal);
    },
    message: () => undefined,
  });
  await vi.advanceTimersByTimeAsync(4000);
  expect(opened).toBe(1);
  await vi.advanceTimersByTimeAsync(5000);
  expect(opened).toBe(2);
  stop();
});

test("a refused request is not sent again", async () => {
  let opened = 0;
  const states: Link[] = [];
  keepStream<string>({
    name: "test",
    open: (signal) => {
      opened++;
      return script([], new ConnectError("twin x is not known", Code.NotFound), signal);
    },
    message: () => undefined,
    state: (link) => states.push(link),
  });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(opened).toBe(1);
  expect(states.at(-1)).toEqual({ state: "failed", error: "twin x is not known" });
});

test("after the end nothing is opened and nothing is told", async () => {
  let opened = 0;
  const stop = keepStream<string>({
    name: "test",
    open: (signal) => {
      opened++;
      return script([], "hang", signal);
    },
    message: () => undefined,
  });
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(opened).toBe(1);
});
