import { create, fromJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";

import { JournalEntrySchema } from "../../gen/pollux/v1/history_pb";
import { told } from "./told";

const entry = (kind: string, data: unknown) =>
  create(JournalEntrySchema, { project: "p", twin: kind === "alarm" ? "" : "p/lamp", kind, name: "n", data: fromJson(ValueSchema, data as never) });

test("entries are told in words", () => {
  expect(told(entry("alarm", { what: "raised", text: "too hot", twin: "p/room", raised: 1 }))).toEqual({ text: "raised: too hot", twin: "p/room", alarm: "p/n" });
  expect(told(entry("alarm", { what: "cleared" }))).toEqual({ text: "cleared", twin: "", alarm: "p/n" });
  expect(told(entry("command", { outcome: "rejected", error: "no lamp", tries: 1 }))).toEqual({ text: "rejected: no lamp", twin: "p/lamp" });
  expect(told(entry("command", { outcome: "done", tries: 1 })).text).toBe("done");
  expect(told(entry("quality", { quality: "stale" })).text).toBe("stale");
  expect(told(entry("desired", { value: { on: true }, by: "x" })).text).toBe('{"on":true}');
  expect(told(entry("desired", { value: 3, by: "x" })).text).toBe("3");
  expect(told(entry("event", { a: 1 })).text).toBe('{"a":1}');
  expect(told(entry("value", "red")).text).toBe("red");
});
