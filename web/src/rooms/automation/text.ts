import { fromJson, isMessage, toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { parse, stringify } from "yaml";

import { RuleSchema, ScheduleSchema, type Rule, type Schedule } from "../../gen/pollux/v1/automation_pb";

/** What the node keeps itself and no file has. */
const kept = ["revision", "update_by", "update_time"];

/** A rule or a schedule as YAML, with the names that files have. */
export function write(record: Rule | Schedule): string {
  const json = (isMessage(record, RuleSchema) ? toJson(RuleSchema, record, { useProtoFieldName: true }) : toJson(ScheduleSchema, record, { useProtoFieldName: true })) as JsonObject;
  return stringify(Object.fromEntries(Object.entries(json).filter(([name]) => !kept.includes(name))), { lineWidth: 0 });
}

export function readRule(text: string, revision: bigint): Rule {
  return Object.assign(fromJson(RuleSchema, inside(text, "rule")), { revision });
}

export function readSchedule(text: string, revision: bigint): Schedule {
  return Object.assign(fromJson(ScheduleSchema, inside(text, "schedule")), { revision });
}

/** YAML or JSON: the record itself, or as it stands in a file, under its kind. */
function inside(text: string, kind: string): JsonValue {
  const value = parse(text) as JsonValue;
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error(`the text is no ${kind}: it has no fields`);
  const json = (kind in value ? value[kind] : value) as JsonObject;
  for (const name of [...kept, "updateBy", "updateTime"]) delete json[name];
  return json;
}
