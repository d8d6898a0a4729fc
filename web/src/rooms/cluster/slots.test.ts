import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { SlotMapSchema } from "../../gen/pollux/v1/cluster_pb";
import { cell, ink, paint, placeOf, ranges, shares, side, slotAt, slotCount, step } from "./slots";

const mapOf = (owners: (slot: number) => number, targets = owners) =>
  create(SlotMapSchema, {
    nodes: ["n1", "n2"],
    names: ["z", ""],
    owners: Array.from({ length: slotCount }, (_, i) => owners(i)),
    targets: Array.from({ length: slotCount }, (_, i) => targets(i)),
  });

test("every point of the map is the slot that is drawn there", () => {
  for (const size of [512, 347]) {
    for (const slot of [0, 1, side - 1, side, 4711, slotCount - 1]) {
      const { column, row } = placeOf(slot);
      expect(slotAt(((column + 0.5) / side) * size, ((row + 0.5) / side) * size, size)).toBe(slot);
    }
  }
  expect(slotAt(-1, 5, 512)).toBeUndefined();
  expect(slotAt(5, 512, 512)).toBeUndefined();
  expect(slotAt(Number.NaN, 5, 512)).toBeUndefined();
});

test("keys walk over the map and stop at its edge", () => {
  expect(step(0, "ArrowLeft")).toBe(0);
  expect(step(side - 1, "ArrowRight")).toBe(side - 1);
  expect(step(5, "ArrowUp")).toBe(5);
  expect(step(5, "ArrowDown")).toBe(5 + side);
  expect(step(slotCount - 1, "ArrowDown")).toBe(slotCount - 1);
  expect(step(200, "ArrowRight")).toBe(201);
  expect(step(200, "x")).toBeUndefined();
});

test("shares count what is owned, due, on its way, and nobody's", () => {
  const { nodes, orphaned, moving } = shares(mapOf((i) => (i < 10 ? 0 : i % 2 ? 1 : 2), (i) => (i < 110 ? 2 : i % 2 ? 1 : 2)));
  expect(nodes.map((n) => n.name)).toEqual(["n2", "z"]);
  expect(orphaned).toBe(10);
  expect(moving).toBe(60);
  expect(nodes[1]?.owned).toBe((slotCount - 10) / 2);
  expect(nodes[0]?.due).toBe(110 + (slotCount - 110) / 2);
  expect((nodes[0]?.due ?? 0) + (nodes[1]?.due ?? 0)).toBe(slotCount);
});

test("a cell has its owner's colour, and inside it where the slot goes", () => {
  const inks = Uint32Array.of(9, 1, 2);
  const faint = Uint32Array.of(90, 10, 20);
  const width = side * cell;
  const pixels = new Uint32Array(width * width);
  const map = mapOf((i) => (i === 129 ? 0 : 1), (i) => (i === 130 ? 2 : 1));
  paint(pixels, map, inks, faint);
  const at = (slot: number, dx: number, dy: number) => {
    const { column, row } = placeOf(slot);
    return pixels[(row * cell + dy) * width + column * cell + dx];
  };
  for (let d = 0; d < cell; d++) expect(at(131, d, d)).toBe(1);
  expect(at(129, 0, 0)).toBe(9);
  expect([at(130, 0, 0), at(130, 1, 1), at(130, 2, 2), at(130, 3, 3), at(130, 0, 2)]).toEqual([1, 2, 2, 1, 1]);
  expect(pixels.includes(0)).toBe(false);
  paint(pixels, map, inks, faint, 2);
  expect([at(131, 0, 0), at(130, 0, 0), at(130, 1, 1), at(129, 0, 0)]).toEqual([10, 10, 2, 90]);
});

test("a colour is the canvas's bytes", () => {
  expect([...new Uint8Array(Uint32Array.of(ink("#0a84f1")).buffer)]).toEqual([0x0a, 0x84, 0xf1, 255]);
  expect([...new Uint8Array(Uint32Array.of(ink("#ffffff", 40)).buffer)]).toEqual([255, 255, 255, 40]);
});

test("many numbers become few ranges", () => {
  expect(ranges([])).toBe("");
  expect(ranges([5, 3, 4, 9, 9, 11, 12])).toBe("3–5, 9, 11–12");
  expect(ranges([0, 2, 4, 6, 8], 3)).toBe("0, 2, 4 and 2 more");
});
