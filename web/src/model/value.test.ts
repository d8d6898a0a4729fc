import { describe, expect, test } from "vitest";

import { ago, bytes, dateTime, moment, number, plain, show, timeOfDay, wrap } from "./value";

describe("values", () => {
  test.each([null, true, 4.5, "on", ["a", 1], { fan: "ok", lamp: null }])("%j goes out and comes back", (json) => {
    expect(plain(wrap(json))).toEqual(json);
  });
  test("no value is no value", () => expect(plain(undefined)).toBeUndefined());
  test("are shown for people", () => {
    expect(show(true)).toBe("on");
    expect(show(undefined)).toBe("–");
    expect(show("")).toBe("“”");
    expect(show({ a: 1 })).toBe('{"a":1}');
    expect(number(21.450000000000003)).toBe("21.45");
    expect(number(12_345_678)).toBe("12345678");
  });
  test("bytes and ages take the unit that says something", () => {
    expect(bytes(812n)).toBe("812 B");
    expect(bytes(1_400_000_000n)).toBe("1.3 GiB");
    expect(ago(1000, 1500)).toBe("now");
    expect(ago(0, 61_000)).toBe("61 s ago");
    expect(ago(0, 7_200_000)).toBe("2 h ago");
    expect(ago(undefined, 0)).toBe("never");
    expect(timeOfDay(new Date(2026, 0, 1, 7, 3, 9, 45).getTime())).toBe("07:03:09.045");
    const now = Date.now();
    expect(moment(now)).toBe(timeOfDay(now));
    expect(moment(now - 86_400_000)).toBe(dateTime(now - 86_400_000));
  });
});
