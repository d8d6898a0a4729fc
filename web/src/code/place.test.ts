import { expect, test } from "vitest";

import { nameOf, placeIn, raise, versionOf } from "./place";

test("a place is found in a sentence", () => {
  expect(placeIn("the source is wrong: lamp.js:12:3: unexpected token", "js")).toEqual({ line: 12, column: 3 });
  expect(placeIn("lamp.test.yaml:4: unknown step", "yaml")).toEqual({ line: 4 });
  expect(placeIn("lamp.test.yaml:4: unknown step", "js")).toBeUndefined();
  expect(placeIn("the device is off", "js")).toBeUndefined();
});

test("the version is read and raised where it stands", () => {
  const source = "export default driver({\n  name: 'lamp',\n  version: '1.9.9', // not \"version: '2.0.0'\"\n});";
  expect(nameOf(source)).toBe("lamp");
  expect(versionOf(source)).toBe("1.9.9");
  expect(versionOf(raise(source))).toBe("1.9.10");
  expect(raise(source)).toContain("not \"version: '2.0.0'\"");
  expect(versionOf("nothing")).toBeUndefined();
  expect(raise("nothing")).toBe("nothing");
});
