import { expect, test } from "vitest";

import { goesTo } from "./lane";

test("a lane says where it leads", () => {
  expect(goesTo("default/alerts")).toBe("topic default/alerts");
  expect(goesTo("rule/default/hot")).toBe("rule default/hot");
  expect(goesTo("run/default/r")).toBe("logic of route default/r");
  expect(goesTo("judge/default/d")).toBe("logic of detector default/d");
  expect(goesTo("verdict/default/d")).toBe("verdicts of detector default/d");
  expect(goesTo("dead/default/alerts")).toBe("dead letters of topic default/alerts");
  expect(goesTo("dead/run/default/r")).toBe("dead letters of logic of route default/r");
  expect(goesTo("run/alerts")).toBe("topic run/alerts"); // of a project called run
  expect(goesTo("dead/alerts")).toBe("topic dead/alerts");
});
