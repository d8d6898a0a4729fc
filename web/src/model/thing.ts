import type { Schema } from "../schema/types";

/** A property of a Thing Model, with its schema. */
export interface PropertyModel {
  name: string;
  title: string;
  description?: string;
  unit?: string;
  writable: boolean;
  /** Numbers and booleans have a history. */
  numeric: boolean;
  schema: Schema;
}

export interface ActionModel {
  name: string;
  title: string;
  description?: string;
  /** Undefined: the action takes nothing. */
  input?: Schema;
}

export interface EventModel {
  name: string;
  title: string;
  description?: string;
}

/** What the console needs of a W3C Thing Model, in the order in which the model gives it. */
export interface Model {
  title: string;
  description?: string;
  properties: PropertyModel[];
  actions: ActionModel[];
  events: EventModel[];
}

interface Described extends Schema {
  readOnly?: boolean;
}

interface ThingModel {
  title?: string;
  description?: string;
  properties?: Record<string, Described>;
  actions?: Record<string, { title?: string; description?: string; input?: Schema }>;
  events?: Record<string, { title?: string; description?: string }>;
}

export interface Transport {
  scheme: string;
  default_port?: number;
  subscribe?: string[];
  publish?: string[];
}

/** The parts of a driver's manifest that the console shows. */
export interface Manifest {
  /** How devices are reached: the scheme of a twin's address picks one. */
  transports: Transport[];
  settings?: Schema;
  model?: ThingModel;
  /** How the driver finds devices in a network, where it can. */
  scan?: { over?: string; port?: number; timeout_ms?: number; options?: Schema };
  memory_mb?: number;
  capabilities?: string[];
}

/** Reads a manifest; undefined where it is no JSON object. */
export function parseManifest(json: string | undefined): Manifest | undefined {
  const raw = parseObject<Manifest & { transport?: Transport }>(json);
  return raw && { ...raw, transports: raw.transports ?? (raw.transport ? [raw.transport] : []) };
}

/** Reads a Thing Model; undefined where it is no JSON object. */
export function parseModel(json: string | undefined): Model | undefined {
  const raw = parseObject<ThingModel>(json);
  return raw && readModel(raw);
}

export function readModel(raw: ThingModel): Model {
  return {
    title: raw.title ?? "",
    description: raw.description,
    properties: Object.entries(raw.properties ?? {}).map(([name, p]) => property(name, p)),
    actions: Object.entries(raw.actions ?? {}).map(([name, a]) => ({
      name,
      title: a.title ?? words(name),
      description: a.description,
      input: a.input && Object.keys(a.input).length > 0 ? a.input : undefined,
    })),
    events: Object.entries(raw.events ?? {}).map(([name, e]) => ({
      name,
      title: e.title ?? words(name),
      description: e.description,
    })),
  };
}

/** A list in the order of another; what the other does not name comes last. */
export function inOrder<T extends { name: string }>(list: T[], as: readonly { name: string }[] | undefined): T[] {
  const place = new Map(as?.map((x, i) => [x.name, i]));
  return [...list].sort((a, b) => (place.get(a.name) ?? place.size) - (place.get(b.name) ?? place.size));
}

/** A property that the twin has and its model does not name: shown as it is, not writable. */
export function unknownProperty(name: string, numeric: boolean): PropertyModel {
  return { name, title: words(name), writable: false, numeric, schema: {} };
}

function property(name: string, p: Described): PropertyModel {
  const type = Array.isArray(p.type) ? p.type[0] : p.type;
  return {
    name,
    title: p.title ?? words(name),
    description: p.description,
    unit: p.unit,
    writable: !p.readOnly,
    numeric: type === "number" || type === "integer" || type === "boolean",
    schema: p,
  };
}

/** lampHours and lamp_hours as “Lamp hours”. */
export function words(name: string): string {
  const spaced = name
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .replace(/[_-]+/g, " ")
    .trim()
    .toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

function parseObject<T>(json: string | undefined): T | undefined {
  if (!json) return undefined;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as T) : undefined;
  } catch {
    return undefined;
  }
}
