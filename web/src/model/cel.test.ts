import { expect, test } from "vitest";

import { indexOf, mistakeOf } from "./cel";

test("the place is read from what the node says", () => {
  const said = "/route/when: ERROR: <input>:2:4: undeclared reference to 'valu' (in container '')\n | a &&\n | ...^";
  expect(mistakeOf(said)).toEqual({ line: 2, column: 4, text: "undeclared reference to 'valu'" });
  expect(mistakeOf("condition: 1:7: no such name; did you mean value?")).toEqual({ line: 1, column: 7, text: "no such name; did you mean value?" });
  expect(mistakeOf("there is no topic default/x")).toBeUndefined();
  expect(mistakeOf("it is 12:30 now")).toBeUndefined();
});

test("a place is an index of the text", () => {
  expect(indexOf("a &&\nvalu > 1", { line: 2, column: 1 })).toBe(5);
  expect(indexOf("abc", { line: 1, column: 99 })).toBe(3);
});
