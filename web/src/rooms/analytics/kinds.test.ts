import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { DetectorKind, DetectorSchema } from "../../gen/pollux/v1/analytics_pb";
import { kindOf, outputOf, whose } from "./kinds";

test("outputs are named as the node names them", () => {
  const of = (property: string, output = "") => outputOf(create(DetectorSchema, { property, output, kind: DetectorKind.EWMA }));
  expect(of("temperature")).toBe("temperature_ewma");
  expect(of("flow-rate")).toBe("flow_rate_ewma");
  expect(of("2nd.t")).toBe("_2nd_t_ewma");
  expect(of("t", "odd")).toBe("odd");
});

test("whose readings are judged", () => {
  expect(whose(create(DetectorSchema, {}))).toBe("all twins that have it");
  expect(whose(create(DetectorSchema, { of: { model: "default/room", labels: { floor: "3" } } }))).toBe("model default/room, floor=3");
  expect(kindOf(DetectorKind.SEASONAL).uses).toContain("timeZone");
});
