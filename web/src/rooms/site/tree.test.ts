import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { ZoneSchema } from "../../gen/pollux/v1/site_pb";
import { tree } from "./tree";

const zone = (id: string, parent = "") => create(ZoneSchema, { id, parent });
const shape = (list: ReturnType<typeof tree>) => list.map((b) => `${"-".repeat(b.depth)}${b.zone.id}${b.below ? `(${b.below})` : ""}`);

test("zones stand below what they are in", () => {
  const zones = [zone("p/r2", "p/f1"), zone("p/f1", "p/hq"), zone("p/hq"), zone("p/r10", "p/f1"), zone("p/lab")];
  expect(shape(tree(zones, new Set()))).toEqual(["p/hq(1)", "-p/f1(2)", "--p/r2", "--p/r10", "p/lab"]);
  expect(shape(tree(zones, new Set(["p/hq"])))).toEqual(["p/hq(1)", "p/lab"]);
});

test("none is lost: neither an orphan nor a ring", () => {
  expect(shape(tree([zone("p/a", "p/gone")], new Set()))).toEqual(["p/a"]);
  expect(tree([zone("p/a", "p/b"), zone("p/b", "p/a")], new Set()).map((b) => b.zone.id).sort()).toEqual(["p/a", "p/b"]);
});
