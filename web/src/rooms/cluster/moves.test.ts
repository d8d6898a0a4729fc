import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";

import { MoveSchema } from "../../gen/pollux/v1/cluster_pb";
import { awaitedBy, passages } from "./moves";

const move = (slot: number, from: string, to: string, begin: number, end?: number, awaited = "") =>
  create(MoveSchema, {
    slot, from, fromName: from.toUpperCase(), to, toName: "",
    beginTime: timestampFromMs(begin),
    endTime: end === undefined ? undefined : timestampFromMs(end),
    state: end === undefined ? "releasing" : "done",
    awaited,
  });

test("the hand-overs of one drain are one line per receiver, a later drain is another", () => {
  const list = passages([
    move(9, "c", "a", 100_000, 100_400),
    move(3, "c", "a", 3000, 4000),
    move(1, "c", "a", 1000, 1500),
    move(2, "c", "b", 1000, 2000),
  ]);
  expect(list.map((p) => [p.from, p.to, p.slots, p.done, p.begin, p.end])).toEqual([
    ["C", "a", [9], 1, 100_000, 100_400],
    ["C", "a", [1, 3], 2, 1000, 4000],
    ["C", "b", [2], 1, 1000, 2000],
  ]);
  expect(new Set(list.map((p) => p.key)).size).toBe(3);
});

test("what runs comes first, has no end and says what is awaited", () => {
  const list = passages([
    move(5, "a", "b", 90_000, 91_000),
    move(1, "c", "a", 1000, 1500),
    move(2, "c", "a", 1000, undefined, "a call of twin x"),
    move(3, "c", "a", 60_000, undefined, "a call of twin y"),
    move(4, "c", "a", 60_000, undefined, "a call of twin y"),
  ]);
  expect(list).toHaveLength(2);
  expect(list[0]).toMatchObject({ from: "C", slots: [1, 2, 3, 4], done: 1, end: undefined });
  expect(list[0]?.awaited).toEqual([["a call of twin y", 2], ["a call of twin x", 1]]);
});

test("who a node waits for, of its own running hand-overs alone", () => {
  const list = [
    move(1, "c", "a", 0, undefined, "x"), move(2, "c", "a", 0, undefined, "y"), move(3, "c", "b", 0, undefined, "y"),
    move(4, "b", "a", 0, undefined, "z"), move(5, "c", "a", 0, 1, "old"), move(6, "c", "a", 0),
  ];
  expect(awaitedBy(list, "c")).toEqual(["y", "x"]);
  expect(awaitedBy(list, "a")).toEqual([]);
});
