import { expect, test } from "vitest";

import { payloadOf } from "./payload";

test("a payload is JSON where it can be read so, and else a text", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  expect(payloadOf(bytes('{"value": 31}'))).toEqual({ value: 31 });
  expect(payloadOf(bytes("31"))).toBe(31);
  expect(payloadOf(bytes("31 °C"))).toBe("31 °C");
  expect(payloadOf(bytes(""))).toBe("");
});
