import { describe, expect, it } from "vitest";

import { amount, counts, span } from "./retention";

describe("retention", () => {
  it("writes spans in their largest whole unit", () => {
    for (const [seconds, want] of [[604_800n, "7 d"], [7200n, "2 h"], [5400n, "90 min"], [61n, "61 s"]] as const) expect(span({ seconds, nanos: 0 } as never)).toBe(want);
  });
  it("writes amounts and counts", () => {
    expect(amount("journal_bytes", 3n << 20n)).toBe("3 MiB");
    expect(amount("twins", 7n)).toBe("7");
    expect(counts({ value: 2n, event: 1n })).toBe("event 1, value 2");
  });
});
