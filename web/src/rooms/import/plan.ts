import { fromJson, toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { isSeq, LineCounter, parseAllDocuments, stringify, type Document } from "yaml";

import type { Action } from "../../gen/pollux/v1/automation_pb";
import { ConfigRecordSchema, type ConfigRecord } from "../../gen/pollux/v1/bulk_pb";
import { csvList, guess, recordOfItem, wrongColumns, yamlList, type List, type ListKind } from "./lists";

/** A record of a file, with the line where it begins. */
export interface PlanLine {
  /** An alias is a record of the twin that gets it, with the one alias. */
  kind: Kind | "alias";
  /** `project/name`. */
  id: string;
  file: string;
  line: number;
  record: ConfigRecord;
  /** `kind/id` of what it names. */
  refs: string[];
  /** How many of the file's own records of its kind are above it. */
  depth: number;
}

/** What is wrong with a line before the node has seen it. */
export interface Misread {
  file: string;
  line: number;
  text: string;
}

export interface Plan {
  lines: PlanLine[];
  misread: Misread[];
  /** What each item of a list is, each for itself; of other files each group of records is committed whole or not at all. */
  list?: ListKind;
}

/** The kinds in the order in which they are applied: what is named comes before who names it. */
export const kinds = [
  "model", "zone", "zone_settings", "project", "topic", "channel", "twin", "route", "system", "system_settings", "relation", "notifier", "schedule", "rule", "sink", "source", "simulation", "detector",
] as const;
export type Kind = (typeof kinds)[number];

/** Reads a file: a list, CSV or YAML, whose items are of the kind given or look like one; or YAML documents of any kinds. */
export function read(file: string, text: string, project: string, as?: ListKind): Plan {
  const { list, ...plan } = file.toLowerCase().endsWith(".csv") ? readList(file, csvList(text), as, true) : readYaml(file, text, as);
  const seen = new Map<string, number>();
  const lines = plan.lines.flatMap(({ kind, line, record }) => {
    const made = kind === "alias" ? namedAlias(record, project) : named(record, project);
    const name = `${kind}/${made.id}`;
    const first = seen.get(name);
    if (first !== undefined) {
      plan.misread.push({ file, line, text: `${kind} ${made.id} is in line ${first} already` });
      return [];
    }
    seen.set(name, line);
    return [{ kind, file, line, record, depth: 0, ...made }];
  });
  const byName = new Map(lines.map((l) => [`${l.kind}/${l.id}`, l]));
  for (const l of lines) l.depth = depthOf(l, byName, 0);
  const order: readonly string[] = kinds;
  lines.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind) || a.depth - b.depth);
  return { lines, misread: plan.misread.sort((a, b) => a.line - b.line), ...(list && { list }) };
}

function depthOf(line: PlanLine, byName: ReadonlyMap<string, PlanLine>, depth: number): number {
  let deepest = 0;
  for (const ref of line.refs) {
    const up = byName.get(ref);
    if (up && up.kind === line.kind && up !== line && depth < 64) deepest = Math.max(deepest, 1 + depthOf(up, byName, depth + 1));
  }
  return deepest;
}

interface Read {
  lines: { kind: PlanLine["kind"]; line: number; record: ConfigRecord }[];
  misread: Misread[];
  list?: ListKind;
}

/** One whose columns are named in its first line is wrong as a whole where one of them is. */
function readList(file: string, list: List, as: ListKind | undefined, headed: boolean): Read {
  const kind = as ?? guess(list);
  const out: Read = { lines: [], misread: [], list: kind };
  const wrong = headed ? wrongColumns(list, kind) : undefined;
  if (wrong !== undefined) {
    out.misread.push({ file, line: 1, text: wrong });
    return out;
  }
  for (const item of list.items) {
    try {
      out.lines.push({ kind, line: item.line, record: recordOfItem(item, kind) });
    } catch (error) {
      out.misread.push({ file, line: item.line, text: said(error) });
    }
  }
  return out;
}

function readYaml(file: string, text: string, as: ListKind | undefined): Read {
  const counter = new LineCounter();
  const out: Read = { lines: [], misread: [] };
  const docs = parseAllDocuments(text, { lineCounter: counter });
  if (!Array.isArray(docs)) return out;
  const lists: Document[] = [];
  for (const doc of docs as Document.Parsed[]) {
    const line = counter.linePos(doc.contents?.range?.[0] ?? doc.range[0]).line;
    // A field that is there twice spoils one item of a list, not the list.
    const wrong = doc.errors.find((e) => !isSeq(doc.contents) || e.code !== "DUPLICATE_KEY");
    if (wrong) {
      out.misread.push({ file, line: wrong.linePos?.[0].line ?? line, text: wrong.message.split("\n")[0] ?? "" });
      continue;
    }
    if (isSeq(doc.contents)) {
      lists.push(doc);
      continue;
    }
    const value: unknown = doc.toJS();
    if (value === null || value === undefined) continue; // nothing between two dashes
    try {
      const { kind, record } = recordOf(value);
      out.lines.push({ kind, line, record });
    } catch (error) {
      out.misread.push({ file, line, text: said(error) });
    }
  }
  if (lists.length === 0) return out;
  const { lines, misread, list } = readList(file, yamlList(lists, counter), as, false);
  for (const l of out.lines) misread.push({ file, line: l.line, text: "is no list, and the file has lists: keep them in files of their own" });
  return { lines, misread: [...out.misread, ...misread], ...(list && { list }) };
}

/** A document `{kind: {fields}}` as a record; a model's `thing` as the text that the API takes. */
function recordOf(value: unknown): { kind: Kind; record: ConfigRecord } {
  const entries = isObject(value) ? Object.entries(value) : [];
  const [kind, fields] = entries[0] ?? ["", undefined];
  if (entries.length !== 1 || !isObject(fields) || !(kinds as readonly string[]).includes(kind)) {
    throw new Error(`want one of ${kinds.join(", ")}, with the record below it`);
  }
  const { thing, ...rest } = fields;
  const whole = kind === "model" && thing !== undefined ? { ...rest, thing_json: JSON.stringify(thing) } : fields;
  return { kind: kind as Kind, record: fromJson(ConfigRecordSchema, { [kind]: whole as JsonValue }) };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What is wrong, without the name of the message that says it. */
function said(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^cannot decode message pollux\.v1\.\w+ from JSON: /, "").replace(/^cannot decode /, "");
}

/** An alias's id; the twin is there already. */
function namedAlias({ record }: ConfigRecord, project: string): { id: string; refs: string[] } {
  const alias = record.case === "twin" ? record.value.aliases[0] : undefined;
  return { id: [project, alias?.network, alias?.key, alias?.value].join("/"), refs: [] };
}

/** A record's id and what it names, complete. */
function named(record: ConfigRecord, project: string): { id: string; refs: string[] } {
  const within = (id: string) => (id.includes("/") ? id : `${project}/${id}`);
  const refs: string[] = [];
  const ref = (of: Kind, id: string) => id && refs.push(`${of}/${within(id)}`);
  const notifiers = (actions: readonly Action[]) => {
    for (const { do: a } of actions) {
      if (a.case === "notify") ref("notifier", a.value.notifier);
      if (a.case === "parallel") notifiers(a.value.actions);
      if (a.case === "raise") for (const e of a.value.escalate) notifiers(e.actions);
    }
  };
  const r = record.record;
  switch (r.case) {
    case "zone":
      ref("zone", r.value.parent);
      break;
    case "zoneSettings":
      ref("zone", r.value.id);
      break;
    case "systemSettings":
      ref("system", r.value.id);
      break;
    case "twin":
      ref("model", r.value.model);
      ref("zone", r.value.zone);
      ref("twin", r.value.via);
      for (const x of r.value.reads) ref("topic", x.topic);
      break;
    case "system":
      ref("zone", r.value.zone);
      for (const m of r.value.members) ref("twin", m.twin);
      break;
    case "route":
      for (const t of r.value.topics) ref("topic", t);
      ref("twin", r.value.run);
      break;
    case "channel":
      ref("topic", r.value.topic);
      return { id: `${within(r.value.topic)}/${r.value.name}`, refs };
    case "project":
      for (const rule of r.value.rules) {
        ref("model", rule.model);
        ref("zone", rule.zone);
      }
      return { id: r.value.project || project, refs };
    case "notifier":
      if (r.value.kind.case === "logic") ref("twin", r.value.kind.value.logic);
      break;
    case "schedule":
      notifiers(r.value.actions);
      break;
    case "rule":
      notifiers([...r.value.then, ...r.value.otherwise]);
      break;
    case "sink":
      ref("topic", r.value.topic);
      break;
    case "simulation":
      ref("model", r.value.model);
      break;
    case "detector":
      for (const twin of r.value.of?.twins ?? []) ref("twin", twin);
      ref("twin", r.value.logic);
      ref("zone", r.value.of?.zone ?? "");
      ref("system", r.value.of?.system ?? "");
      break;
    case "relation":
      for (const end of [r.value.from, r.value.to]) {
        const [, of = "twin", id = ""] = /^(?:(zone|system):)?(.*)$/.exec(end) ?? [];
        ref(of as Kind, id);
      }
      return { id: `${project}/${[r.value.from, r.value.type, r.value.to].join("/")}`, refs };
  }
  const id = r.value && "id" in r.value ? within(r.value.id) : `${project}/?`;
  return { id, refs };
}

/** Records that are sent together: of one kind and depth, at most 200, so that none names another. */
export function groups(lines: readonly PlanLine[]): PlanLine[][] {
  const all: PlanLine[][] = [];
  for (const l of lines) {
    const last = all.at(-1);
    if (last && last.length < 200 && last[0]?.kind === l.kind && last[0].depth === l.depth) last.push(l);
    else all.push([l]);
  }
  return all;
}

/** Records as the YAML documents that an import takes. */
export function write(records: readonly ConfigRecord[]): string {
  return records.map((r) => `---\n${stringify(document(r))}`).join("");
}

function document(record: ConfigRecord): JsonValue {
  const json = toJson(ConfigRecordSchema, record, { useProtoFieldName: true }) as { model?: JsonObject };
  const model = json.model;
  if (typeof model?.thing_json !== "string") return json as JsonObject;
  const { thing_json, ...rest } = model;
  return { model: { ...rest, thing: JSON.parse(thing_json) as JsonValue } };
}

