import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { DriverSchema } from "../gen/pollux/v1/driver_pb";
import { ModelSchema } from "../gen/pollux/v1/model_pb";
import { kindOf, kinds, valueOf } from "./kind";

test("a kind is a choice's value and back", () => {
  for (const kind of [{ driver: "pjlink@1.2.0", model: "" }, { driver: "", model: "hotel/room" }]) expect(kindOf(valueOf(kind))).toEqual(kind);
  expect(valueOf({ driver: "", model: "" })).toBe("");
  expect(kindOf("")).toEqual({ driver: "", model: "" });
});

test("models come by title, drivers by name, with their versions where these are asked for", () => {
  const drivers = ["1.0.0", "1.10.0", "1.9.0"].map((version) => create(DriverSchema, { name: "pjlink", version }));
  const models = [create(ModelSchema, { id: "default/room", title: "Room" }), create(ModelSchema, { id: "hotel/room" })];
  const labels = (versions: boolean) => kinds(drivers, models, versions).map((g) => g.items.map((i) => i.label));
  expect(labels(false)).toEqual([["Room (room)", "hotel/room"], ["pjlink"]]);
  expect(labels(true)[1]).toEqual(["pjlink (newest)", "pjlink@1.10.0", "pjlink@1.9.0", "pjlink@1.0.0"]);
});
