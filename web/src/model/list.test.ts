import { describe, expect, it } from "vitest";

import { all, counted } from "./list";

describe("a list of all records", () => {
  const pages = (records: number) => (token: string) => {
    const from = Number(token);
    const items = Array.from({ length: Math.min(500, records - from) }, (_, i) => from + i);
    return Promise.resolve({ items, next: from + 500 < records ? String(from + 500) : "" });
  };
  it("is said whole, or as the beginning that it is", async () => {
    expect(counted(await all(pages(0)), "zone")).toBe("0 zones");
    expect(counted(await all(pages(1)), "zone")).toBe("1 zone");
    expect(counted(await all(pages(1201)), "zone")).toBe("1\u202f201 zones");
    expect(counted(await all(pages(5220)), "zone")).toBe("5\u202f000 and more zones");
  });
});
