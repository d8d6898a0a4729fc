import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import Papa from "papaparse";
import { isAlias, isMap, isNode, isScalar, isSeq, type Document, type LineCounter, type Node } from "yaml";

import { ConfigRecordSchema, type ConfigRecord } from "../../gen/pollux/v1/bulk_pb";
import { readPlace } from "../../model/place";

/** What the items of a list can be: lines of a CSV file, or items of a YAML list. */
export const listKinds = ["twin", "zone", "system", "alias"] as const;
export type ListKind = (typeof listKinds)[number];

export const columnsOf: Record<ListKind, string> = {
  twin: "id, driver or model, uri, zone, via, system, selector, stopped, labels.NAME, settings.NAME, derived.NAME, aliases, reads",
  zone: "id, parent, kind, title, place",
  system: "id, title, zone, members",
  alias: "network, key, value, twin",
};

/** Columns without which there is no record. */
const must = (kind: ListKind) => (kind === "alias" ? ["network", "key", "value", "twin"] : ["id"]);

/** An item by its columns, each cell as a CSV file has it. */
export interface Item {
  line: number;
  cells: [column: string, cell: string][];
  /** What is wrong with it already. */
  wrong?: string;
}

export interface List {
  columns: string[];
  items: Item[];
}

/** What the columns look like. */
export function guess({ columns }: List): ListKind {
  if (columns.includes("members")) return "system";
  if (columns.includes("network") && columns.includes("value")) return "alias";
  return ["parent", "kind", "place"].some((c) => columns.includes(c)) ? "zone" : "twin";
}

/** What is wrong with the columns as a whole, of a file whose first line names them. */
export function wrongColumns({ columns }: List, kind: ListKind): string | undefined {
  const missing = must(kind).find((c) => !columns.includes(c));
  if (missing !== undefined) return `no column is called ${missing}; there are ${columns.join(", ") || "none"}`;
  const strange = columns.find((c) => !known(kind, c));
  if (strange !== undefined) return `column ${JSON.stringify(strange)}: want ${columnsOf[kind]}`;
  const twice = columns.find((c, i) => columns.indexOf(c) < i);
  return twice === undefined ? undefined : `column ${JSON.stringify(twice)} is named twice`;
}

/** An item as a record; an alias as a twin that has it. An empty cell is a field that is not set. */
export function recordOfItem(item: Item, kind: ListKind): ConfigRecord {
  if (item.wrong !== undefined) throw new Error(item.wrong);
  const fields: JsonObject = {};
  for (const [column, cell] of item.cells) {
    if (!known(kind, column)) throw new Error(`${column}: no such column: want ${columnsOf[kind]}`);
    if (cell !== "") put(fields, column, cell);
  }
  const empty = must(kind).find((c) => !item.cells.some(([column, cell]) => column === c && cell !== ""));
  if (empty !== undefined) throw new Error(`${empty} is empty`);
  if (kind !== "alias") return fromJson(ConfigRecordSchema, { [kind]: fields });
  const { twin: id, ...alias } = fields;
  return fromJson(ConfigRecordSchema, { twin: { id: id ?? "", aliases: [alias] } });
}

export function csvList(text: string): List {
  const { data } = Papa.parse<string[]>(text.replace(/^\ufeff/, ""), { delimiter: "," });
  const columns = (data[0] ?? []).map((c) => c.trim());
  const items: Item[] = [];
  let next = 2;
  for (const cells of data.slice(1)) {
    const line = next;
    // A quoted cell may go over lines.
    next += 1 + cells.reduce((n, c) => n + (c.match(/\n/g)?.length ?? 0), 0);
    if (cells.every((c) => c.trim() === "")) continue;
    const item: Item = { line, cells: columns.map((c, j) => [c, cells[j] ?? ""]) };
    if (cells.length !== columns.length) item.wrong = `${cells.length} cells, and ${columns.length} columns are named`;
    items.push(item);
  }
  return { columns, items };
}

/** The items of YAML documents that are lists, which together are one. */
export function yamlList(lists: readonly Document[], counter: LineCounter): List {
  const items = lists.flatMap((doc) => (isSeq(doc.contents) ? doc.contents.items.map((node) => yamlItem(node, doc, counter)) : []));
  return { columns: [...new Set(items.flatMap((i) => i.cells.map(([c]) => c)))], items };
}

function yamlItem(node: unknown, doc: Document, counter: LineCounter): Item {
  const item: Item = { line: counter.linePos((node as Node).range?.[0] ?? 0).line, cells: [] };
  const fields = meant(node, doc);
  if (!isMap(fields)) return { ...item, wrong: "is no mapping of fields" };
  for (const { key, value } of fields.items) {
    const name = isScalar(key) ? text(key) : "";
    const of = meant(value, doc);
    if (["labels", "settings", "derived"].includes(name) && isMap(of)) {
      for (const one of of.items) take(item, `${name}.${isScalar(one.key) ? text(one.key) : ""}`, meant(one.value, doc), doc);
    } else take(item, name, of, doc);
  }
  const names = item.cells.map(([c]) => c);
  const twice = names.find((c, i) => names.indexOf(c) < i);
  if (twice !== undefined) item.wrong ??= `${twice} is there twice`;
  return item;
}

/** The node that one stands for, which may be named before. */
const meant = (node: unknown, doc: Document) => (isAlias(node) ? node.resolve(doc) : node);

/** Takes a field of YAML as a cell: settings as JSON, lists with ";" between. */
function take(item: Item, column: string, value: unknown, doc: Document) {
  let cell: string | undefined;
  if (value === null || (isScalar(value) && value.value === null)) cell = "";
  else if (column.startsWith("settings.") && isNode(value)) cell = JSON.stringify(value.toJS(doc));
  else if (isScalar(value)) cell = text(value);
  else if (["aliases", "members", "reads"].includes(column) && isSeq(value) && value.items.every((one) => isScalar(one))) {
    cell = value.items.map((one) => (isScalar(one) ? text(one) : "")).join(";");
  } else if (column === "members" && isMap(value)) {
    cell = value.items.map(({ key, value: of }) => `${isScalar(key) ? text(key) : ""}=${isScalar(of) ? text(of) : ""}`).join(";");
  }
  if (cell === undefined) item.wrong ??= `${column}: want a plain value`;
  item.cells.push([column, cell ?? ""]);
}

/** A plain value as it is written: 007 stays 007. */
const text = (of: { value: unknown; source?: string }) => (typeof of.value === "string" ? of.value : (of.source ?? String(of.value)));

function known(kind: ListKind, column: string): boolean {
  if (kind === "twin" && /^(labels|settings|derived)\../.test(column)) return true;
  return columnsOf[kind].split(/, | or /).includes(column);
}

/** Puts a cell into the record's JSON. */
function put(fields: JsonObject, column: string, cell: string) {
  const [, group, name] = /^(labels|settings|derived)\.(.+)$/.exec(column) ?? [];
  if (group && name) {
    const of = (fields[group] ??= {}) as JsonObject;
    of[name] = group === "settings" ? cellValue(cell) : cell;
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
  } else if (column === "reads") {
    fields.reads = parts(cell).map((one) => {
      const [topic = "", ...channel] = one.split("=");
      return { topic, channel: channel.join("=") };
    });
  } else if (column === "place") {
    const place = readPlace(cell);
    if (place) fields.place = { ...place };
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
