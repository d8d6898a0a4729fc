import { fromJson, toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import Papa from "papaparse";
import { LineCounter, parseAllDocuments, stringify } from "yaml";

import type { Action } from "../../gen/pollux/v1/automation_pb";
import { ConfigRecordSchema, type ConfigRecord } from "../../gen/pollux/v1/bulk_pb";

/** A record of a file, with the line where it begins. */
export interface PlanLine {
  kind: Kind;
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
  /** Each line for itself, as of a CSV file; else each group whole or not at all. */
  each: boolean;
}

/** The kinds in the order in which they are applied: what is named comes before who names it. */
export const kinds = [
  "model", "zone", "project", "topic", "channel", "route", "twin", "system", "relation", "notifier", "schedule", "rule", "sink", "source", "simulation", "detector",
] as const;
export type Kind = (typeof kinds)[number];

/** What a CSV file's lines can be. */
export const csvKinds = ["twin", "zone", "system"] as const;
export type CsvKind = (typeof csvKinds)[number];

export const csvColumns: Record<CsvKind, string> = {
  twin: "id, driver or model, uri, zone, via, selector, stopped, labels.NAME, settings.NAME, aliases",
  zone: "id, parent, kind, title",
  system: "id, title, zone, members",
};

/** What the columns look like. */
export function guess(text: string): CsvKind {
  const columns = (text.split(/\r?\n/, 1)[0] ?? "").split(",").map((c) => c.trim());
  if (columns.includes("members")) return "system";
  return columns.includes("parent") || columns.includes("kind") ? "zone" : "twin";
}

/** Reads a file: YAML documents, or the lines of a CSV file. */
export function read(file: string, text: string, project: string, csv: CsvKind): Plan {
  const isCsv = file.toLowerCase().endsWith(".csv");
  const plan = isCsv ? readCsv(file, text, csv) : readYaml(file, text);
  const seen = new Map<string, number>();
  const lines = plan.lines.flatMap(({ kind, line, record }) => {
    const made = named(record, project);
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
  lines.sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || a.depth - b.depth);
  return { lines, misread: plan.misread.sort((a, b) => a.line - b.line), each: isCsv };
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
  lines: { kind: Kind; line: number; record: ConfigRecord }[];
  misread: Misread[];
}

function readYaml(file: string, text: string): Read {
  const counter = new LineCounter();
  const out: Read = { lines: [], misread: [] };
  const docs = parseAllDocuments(text, { lineCounter: counter });
  if (!Array.isArray(docs)) return out;
  for (const doc of docs) {
    const line = counter.linePos(doc.contents?.range?.[0] ?? doc.range[0]).line;
    const wrong = doc.errors[0];
    if (wrong) {
      out.misread.push({ file, line: wrong.linePos?.[0].line ?? line, text: wrong.message.split("\n")[0] ?? "" });
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
  return out;
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

function readCsv(file: string, text: string, kind: CsvKind): Read {
  const out: Read = { lines: [], misread: [] };
  const { data } = Papa.parse<string[]>(text.replace(/^\ufeff/, ""), { delimiter: "," });
  const columns = (data[0] ?? []).map((c) => c.trim());
  if (!columns.includes("id")) {
    out.misread.push({ file, line: 1, text: `no column is called id; there are ${columns.join(", ") || "none"}` });
    return out;
  }
  const strange = columns.find((c) => !known(kind, c));
  if (strange !== undefined) {
    out.misread.push({ file, line: 1, text: `column ${JSON.stringify(strange)}: want ${csvColumns[kind]}` });
    return out;
  }
  let next = 2;
  for (const cells of data.slice(1)) {
    const line = next;
    // A quoted cell may go over lines.
    next += 1 + cells.reduce((n, c) => n + (c.match(/\n/g)?.length ?? 0), 0);
    if (cells.every((c) => c.trim() === "")) continue;
    try {
      if (cells.length !== columns.length) throw new Error(`${cells.length} cells, and ${columns.length} columns are named`);
      const fields: JsonObject = {};
      columns.forEach((c, j) => cells[j] && put(fields, c, cells[j]));
      if (!fields.id) throw new Error("id is empty");
      out.lines.push({ kind, line, record: fromJson(ConfigRecordSchema, { [kind]: fields }) });
    } catch (error) {
      out.misread.push({ file, line, text: said(error) });
    }
  }
  return out;
}

function known(kind: CsvKind, column: string): boolean {
  if (kind === "twin" && /^(labels|settings)\../.test(column)) return true;
  return csvColumns[kind].split(/, | or /).includes(column);
}

/** Puts a cell into the record's JSON. */
function put(fields: JsonObject, column: string, cell: string) {
  const [, group, name] = /^(labels|settings)\.(.+)$/.exec(column) ?? [];
  if (group && name) {
    const of = (fields[group] ??= {}) as JsonObject;
    of[name] = group === "labels" ? cell : cellValue(cell);
  } else if (column === "stopped") {
    const word = cell.toLowerCase();
    if (!["true", "yes", "1", "false", "no", "0"].includes(word)) throw new Error(`stopped: ${JSON.stringify(cell)}: want true or false`);
    fields.stopped = ["true", "yes", "1"].includes(word);
  } else if (column === "aliases") {
    fields.aliases = parts(cell).map((one) => {
      const [network = "", key = "", ...value] = one.split(":");
      if (value.length === 0) throw new Error(`aliases: ${JSON.stringify(one)}: want NETWORK:KEY:VALUE`);
      return { network, key, value: value.join(":") };
    });
  } else if (column === "members") {
    fields.members = parts(cell).map((one) => {
      const at = one.indexOf("=");
      if (at < 1 || at === one.length - 1) throw new Error(`members: ${JSON.stringify(one)}: want NAME=TWIN`);
      return { name: one.slice(0, at), twin: one.slice(at + 1) };
    });
  } else fields[column] = cell;
}

const parts = (cell: string) => cell.split(";").map((p) => p.trim()).filter(Boolean);

/** A cell as JSON where it is, else as text. */
function cellValue(cell: string): JsonValue {
  try {
    return JSON.parse(cell) as JsonValue;
  } catch {
    return cell;
  }
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
    }
  };
  const r = record.record;
  switch (r.case) {
    case "zone":
      ref("zone", r.value.parent);
      break;
    case "twin":
      ref("model", r.value.model);
      ref("zone", r.value.zone);
      ref("twin", r.value.via);
      break;
    case "system":
      ref("zone", r.value.zone);
      for (const m of r.value.members) ref("twin", m.twin);
      break;
    case "route":
      for (const t of r.value.topics) ref("topic", t);
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

