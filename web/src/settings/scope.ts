import type { JsonValue } from "@bufbuild/protobuf";

import type { SettingChange, SettingValue } from "../gen/pollux/v1/settings_pb";
import { plain, show } from "../model/value";
import type { Schema } from "../schema/types";

/** Whose settings are meant. */
export interface Scope {
  kind: "driver" | "zone" | "system" | "twin";
  id: string;
}

/** The scope of a request. */
export function asked({ kind, id }: Scope) {
  return { scope: { case: kind, value: id } };
}

/** Where a setting comes from as a scope; undefined for a default, which nobody set. */
export function scopeOf(source: string): Scope | undefined {
  const [kind = "", ...rest] = source.split(" ");
  const id = rest.join(" ");
  if (!id || !["driver", "zone", "system", "twin"].includes(kind)) return undefined;
  return { kind: kind as Scope["kind"], id };
}

/** All that gives this twin a setting or could: itself, then from the nearest to the farthest. */
export function scopesOf(twin: { id: string; driver: string; zone: string }, values: readonly SettingValue[]): Scope[] {
  const scopes: Scope[] = [{ kind: "twin", id: twin.id }];
  const add = (scope: Scope | undefined) => {
    if (scope && !scopes.some((s) => s.kind === scope.kind && s.id === scope.id)) scopes.push(scope);
  };
  const given = values.map((v) => scopeOf(v.source)).filter((s) => s !== undefined);
  for (const s of given) if (s.kind === "system") add(s);
  if (twin.zone) add({ kind: "zone", id: twin.zone.includes("/") ? twin.zone : `${twin.id.split("/")[0]}/${twin.zone}` });
  for (const s of given) if (s.kind === "zone") add(s);
  add({ kind: "driver", id: twin.driver.split("@")[0] ?? "" });
  return scopes;
}

/** The schema for a twin's own settings: what others give need not be given again, and is the default here. */
export function withInherited(schema: Schema | undefined, values: readonly SettingValue[]): Schema | undefined {
  if (!schema) return undefined;
  const given = values.filter((v) => !v.source.startsWith("twin "));
  const names = new Set(given.map((v) => v.name.split("/")[0]));
  const properties = { ...schema.properties };
  for (const v of given) {
    const part = properties[v.name];
    if (part && !v.secret) properties[v.name] = { ...part, default: plain(v.value) };
  }
  return { ...schema, properties, required: schema.required?.filter((name) => !names.has(name)) };
}

/** The schema for a part of the settings: nothing is needed here, and nothing has a default. */
export function partOf(schema: Schema): Schema {
  return { ...schema, required: undefined };
}

/** A change in words. */
export function change({ before, after, secret }: Pick<SettingChange, "before" | "after" | "secret">): string {
  const was: JsonValue | undefined = plain(before);
  const is: JsonValue | undefined = plain(after);
  if (secret) return was === undefined ? "secret, set" : is === undefined ? "secret, removed" : "secret, another";
  if (was === undefined) return `set to ${show(is)}`;
  if (is === undefined) return `removed, was ${show(was)}`;
  return `${show(was)} → ${show(is)}`;
}
