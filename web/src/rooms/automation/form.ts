import { toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { stringify } from "yaml";

import { ActionSchema, type Action, type Rule } from "../../gen/pollux/v1/automation_pb";
import { readRule, write } from "./text";

export type ActKind = "set" | "call" | "raise" | "clear" | "mqtt" | "publish" | "wait";

/** One action of the form. What each field is, depends on the kind; those that it has not are empty. */
export interface Act {
  kind: ActKind;
  twin: string;
  /** The property, the action, the alarm or the topic. */
  name: string;
  /** The value, the input, the text, or how long. */
  value: string;
}

/** What of a rule can be said by mouse; everything else is in its text. */
export interface RuleForm {
  id: string;
  twin: string;
  property: string;
  if: string;
  until: string;
  for: string;
  then: Act[];
  otherwise: Act[];
}

export const blankForm: RuleForm = { id: "", twin: "", property: "", if: "", until: "", for: "", then: [{ kind: "set", twin: "", name: "", value: "" }], otherwise: [] };

/** JSON where it is that, else a text. */
function valueOf(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return text;
  }
}

function actionOf({ kind, twin, name, value }: Act): JsonObject {
  const to: JsonObject = twin === "" ? {} : { to: { twin } };
  switch (kind) {
    case "set":
      return { set: { ...to, property: name, value: valueOf(value) } };
    case "call":
      return { call: { ...to, action: name, ...(value === "" ? {} : ({ input: valueOf(value) } as JsonObject)) } };
    case "raise":
      return { raise: { ...(name === "" ? {} : { alarm: name }), severity: "ALARM_SEVERITY_WARNING", ...(value === "" ? {} : { text: value }) } };
    case "clear":
      return { clear: name === "" ? {} : { alarm: name } };
    case "mqtt":
      return { mqtt: { topic: name, ...(value === "" ? {} : { payload: value }) } };
    case "publish":
      return { publish: { topic: name } };
    case "wait":
      return { wait: value === "" ? "1s" : seconds(value) };
  }
}

/** 90s, 5m or 2h as a duration of JSON. */
export function seconds(text: string): string {
  const found = /^(\d+(?:\.\d+)?)\s*(s|m|h|d)?$/.exec(text.trim());
  if (!found) throw new Error(`"${text}" is no time, such as 90s, 5m or 2h`);
  return `${Number(found[1]) * { s: 1, m: 60, h: 3600, d: 86400 }[found[2] ?? "s"]!}s`;
}

/** The YAML that a form says. It need not be a rule that the node takes. */
export function textOf(f: RuleForm): string {
  const rule: JsonObject = { id: f.id, when: [{ property: { ...(f.twin === "" ? {} : { of: { twins: [f.twin] } }), names: f.property === "" ? [] : [f.property] } }] };
  if (f.if !== "") rule["if"] = f.if;
  if (f.until !== "") rule["until"] = f.until;
  if (f.for !== "") rule["for"] = seconds(f.for);
  if (f.then.length > 0) rule["then"] = f.then.map(actionOf);
  if (f.otherwise.length > 0) rule["otherwise"] = f.otherwise.map(actionOf);
  return stringify(rule, { lineWidth: 0 });
}

function actOf(a: Action): Act | undefined {
  const act = (kind: ActKind, twin: string | undefined, name: string, value: string): Act => ({ kind, twin: twin ?? "", name, value });
  const json = (v: unknown) => (typeof v === "string" ? v : v === undefined ? "" : JSON.stringify(v));
  const record = toJson(ActionSchema, a, { useProtoFieldName: true }) as Record<string, Record<string, unknown>>;
  switch (a.do.case) {
    case "set":
      return act("set", a.do.value.to?.twin, a.do.value.property, json(record["set"]?.["value"]));
    case "call":
      return act("call", a.do.value.to?.twin, a.do.value.action, json(record["call"]?.["input"]));
    case "raise":
      return act("raise", "", a.do.value.alarm, a.do.value.text);
    case "clear":
      return act("clear", "", a.do.value.alarm, "");
    case "mqtt":
      return act("mqtt", "", a.do.value.topic, a.do.value.payload);
    case "publish":
      return act("publish", "", a.do.value.topic, "");
    case "wait":
      return act("wait", "", "", `${a.do.value.seconds}s`);
    default:
      return undefined;
  }
}

/** The form that says the same as a text, or undefined where there is none. */
export function formOf(text: string): RuleForm | undefined {
  let rule: Rule;
  try {
    rule = readRule(text, 0n);
  } catch {
    return undefined;
  }
  const on = rule.when[0]?.on;
  const then = rule.then.map(actOf);
  const otherwise = rule.otherwise.map(actOf);
  if (rule.when.length !== 1 || on?.case !== "property" || then.includes(undefined) || otherwise.includes(undefined)) return undefined;
  const form: RuleForm = {
    id: rule.id,
    twin: on.value.of?.twins[0] ?? "",
    property: on.value.names[0] ?? "",
    if: rule.if,
    until: rule.until,
    for: rule.for ? `${rule.for.seconds}s` : "",
    then: then as Act[],
    otherwise: otherwise as Act[],
  };
  // Whatever the form has no field for would be lost.
  try {
    return write(readRule(textOf(form), 0n)) === write(rule) ? form : undefined;
  } catch {
    return undefined;
  }
}
