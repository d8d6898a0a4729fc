import { expect, test } from "vitest";

import { compareVersions } from "./versions";

test("versions are ordered by value, pre-releases first", () => {
  const sorted = ["1.10.0", "1.2.0", "1.2.0-rc.10", "1.2.0-rc.2", "1.2.0-alpha", "0.9.9"].sort(compareVersions);
  expect(sorted).toEqual(["0.9.9", "1.2.0-alpha", "1.2.0-rc.2", "1.2.0-rc.10", "1.2.0", "1.10.0"]);
});
