import { expect, test } from "vitest";

import { asHex, asText, dump } from "./wire";

const ascii = (s: string) => new TextEncoder().encode(s);

test("control characters are named, text stays text", () => {
  expect(asText(ascii("%1POWR ?\r"))).toBe("%1POWR ?\\r");
  expect(asText(ascii("a\\b\t\u0002"))).toBe("a\\\\b\\t\\x02");
  expect(asText(ascii("Grüße"))).toBe("Grüße");
});

test("bytes that are no text are escaped one by one", () => {
  expect(asText(new Uint8Array([0x41, 0xff, 0x5c, 0x00]))).toBe("A\\xff\\x5c\\x00".replace("\\x5c", "\\\\"));
});

test("hex is cut where asked", () => {
  expect(asHex(new Uint8Array([0, 15, 255]))).toBe("00 0f ff");
  expect(asHex(new Uint8Array([1, 2, 3]), 2)).toBe("01 02 …");
});

test("a dump has sixteen bytes a row", () => {
  const rows = dump(ascii("0123456789abcdef!\n")).split("\n");
  expect(rows).toHaveLength(2);
  expect(rows[0]).toBe("000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef");
  expect(rows[1]?.endsWith("!·")).toBe(true);
});
