import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";

import { MoveSchema, SlotMapSchema } from "../../gen/pollux/v1/cluster_pb";
import { awaitedBy, passages, running } from "./moves";

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
    move(7, "c", "a", 1000),
    move(2, "c", "b", 1000, 2000),
  ]);
  expect(list.map((p) => [p.from, p.to, p.slots, p.begin, p.end])).toEqual([
    ["C", "a", [9], 100_000, 100_400],
    ["C", "a", [1, 3], 1000, 4000],
    ["C", "b", [2], 1000, 2000],
  ]);
  expect(new Set(list.map((p) => p.key)).size).toBe(3);
});

test("what runs is counted in the map, which knows more slots than the hand-overs that are told", () => {
  const map = create(SlotMapSchema, {
    nodes: ["a", "b", "c"],
    names: ["", "B", "C"],
    owners: [3, 3, 3, 3, 1, 0, 2],
    targets: [1, 1, 1, 2, 1, 2, 0],
  });
  const list = running(map, [
    move(1, "c", "a", 2000, undefined, "x"), move(2, "c", "a", 1000, undefined, "y"), move(0, "c", "a", 3000, undefined, "y"),
    move(9, "c", "a", 10, 20), move(9, "b", "a", 10, undefined, "z"),
  ]);
  expect(list).toEqual([
    { key: "c>a", from: "C", to: "a", slots: [0, 1, 2], begin: 1000, awaited: ["y", "x"] },
    { key: ">b", from: "", to: "B", slots: [5], awaited: [] },
    { key: "c>b", from: "C", to: "B", slots: [3], awaited: [] },
  ]);
  expect(running(undefined, [])).toEqual([]);
});

test("who a node waits for, of its own running hand-overs alone", () => {
  const list = [
    move(1, "c", "a", 0, undefined, "x"), move(2, "c", "a", 0, undefined, "y"), move(3, "c", "b", 0, undefined, "y"),
    move(4, "b", "a", 0, undefined, "z"), move(5, "c", "a", 0, 1, "old"), move(6, "c", "a", 0),
  ];
  expect(awaitedBy(list, "c")).toEqual(["y", "x"]);
  expect(awaitedBy(list, "a")).toEqual([]);
});
