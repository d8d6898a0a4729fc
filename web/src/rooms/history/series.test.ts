import { expect, test } from "vitest";

import { csv, format, parse } from "./series";

test("series are a word of the address", () => {
  const list = [{ twin: "p/a", property: "temperature" }, { twin: "p/b", property: "x:y" }];
  expect(parse(format(list))).toEqual(list);
  expect(parse("")).toEqual([]);
  expect(parse("p/a:,:x,nothing")).toEqual([]);
});

test("lines become a table by time", () => {
  const text = csv([
    { label: "p/a temperature", unit: "Cel", times: [0, 60], values: [20, null] },
    { label: 'p/b "x", y', unit: "", times: [60], values: [1.5] },
  ]);
  expect(text).toBe('time,p/a temperature [Cel],"p/b ""x"", y"\n1970-01-01T00:00:00.000Z,20,\n1970-01-01T00:01:00.000Z,,1.5\n');
});
