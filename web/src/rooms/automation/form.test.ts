import { expect, test } from "vitest";

import { blankForm, formOf, seconds, textOf, type RuleForm } from "./form";
import { readRule, write } from "./text";

const form: RuleForm = {
  id: "default/hot",
  twin: "default/lobby",
  property: "temperature",
  if: "value > 28.0",
  until: "value < 26.0",
  for: "300s",
  then: [
    { kind: "set", twin: "default/fan", name: "power", value: "true" },
    { kind: "call", twin: "default/fan", name: "boost", value: '{"level":3}' },
    { kind: "raise", twin: "", name: "", value: "it is ${value}" },
    { kind: "wait", twin: "", name: "", value: "90s" },
    { kind: "mqtt", twin: "", name: "a/b", value: "hot" },
    { kind: "publish", twin: "", name: "default/told", value: "" },
  ],
  otherwise: [{ kind: "clear", twin: "", name: "", value: "" }],
};

test("form and text say the same, both ways", () => {
  expect(formOf(textOf(form))).toEqual(form);
  const text = write(readRule(textOf(form), 0n));
  expect(write(readRule(textOf(formOf(text)!), 0n))).toBe(text);
});

test("a text with more than the form has fields for has no form", () => {
  const text = textOf(form);
  expect(formOf(`${text}once_per: 60s\n`)).toBeUndefined();
  expect(formOf("id: default/x\nwhen: [{event: {}}]\nthen: [{stop: true}]")).toBeUndefined();
  expect(formOf("when: [")).toBeUndefined();
});

test("times are read", () => {
  expect(["90s", "5m", "2h", "1d", "30"].map(seconds)).toEqual(["90s", "300s", "7200s", "86400s", "30s"]);
  expect(() => seconds("soon")).toThrow("is no time");
  expect(() => textOf({ ...blankForm, for: "x" })).toThrow("is no time");
});
