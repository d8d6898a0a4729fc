import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";

import { ProjectSettingsSchema, UnknownSenders } from "../../gen/pollux/v1/ingest_pb";
import { draftOf, readAmount, readSpan, settingsOf, writeAmount, writeSpan } from "./draft";

describe("a project's settings as they are written", () => {
  it("reads and writes spans", () => {
    for (const text of ["30d", "36h", "10min", "61s"]) expect(writeSpan(readSpan(text))).toBe(text);
    expect(readSpan(" ")).toBeUndefined();
    expect(readSpan("2 y")?.seconds).toBe(63_072_000n);
    for (const text of ["30", "d", "1.5h", "30 weeks"]) expect(() => readSpan(text)).toThrow("is no span");
  });
  it("reads and writes amounts", () => {
    for (const text of ["2GiB", "512MiB", "3KiB", "1000"]) expect(writeAmount(readAmount(text, true), true)).toBe(text);
    expect(readAmount("", true)).toBe(0n);
    expect(() => readAmount("1GiB", false)).toThrow("is no amount");
    expect(() => readAmount("many", true)).toThrow("is no amount");
  });
  it("keeps what it does not show", () => {
    const old = create(ProjectSettingsSchema, {
      project: "hotel",
      revision: 7n,
      unknownSenders: UnknownSenders.PROVISION,
      rules: [{ network: "lora", model: "hotel/room" }],
      pubsubPush: { audience: "a" },
      journalRetention: [{ kind: "event", maxAge: { seconds: 86_400n } }],
      sampleRetention: [{ property: "power", maxAge: { seconds: 604_800n }, downsample: { seconds: 300n }, downsampleMaxAge: { seconds: 31_536_000n } }],
      quotas: { twins: 5n, journalBytes: 1n << 30n },
    });
    expect(settingsOf(old, draftOf(old))).toEqual(old);
    const next = settingsOf(old, { ...draftOf(old), twins: "", journal: "", maxAge: "7d" });
    expect(next.quotas).toBeUndefined();
    expect(next.maxAge?.seconds).toBe(604_800n);
    expect([next.rules, next.pubsubPush, next.revision]).toEqual([old.rules, old.pubsubPush, 7n]);
  });
});
