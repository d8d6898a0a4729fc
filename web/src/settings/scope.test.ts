import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { SettingValueSchema } from "../gen/pollux/v1/settings_pb";
import { wrap } from "../model/value";
import { change, scopeOf, scopesOf, withInherited } from "./scope";

const value = (name: string, source: string) => create(SettingValueSchema, { name, source });

test("an origin is a scope, unless nobody set it", () => {
  expect(scopeOf("zone default/house")).toEqual({ kind: "zone", id: "default/house" });
  expect(scopeOf("driver lamp")).toEqual({ kind: "driver", id: "lamp" });
  expect(scopeOf("default")).toBeUndefined();
  expect(scopeOf("moon base")).toBeUndefined();
});

test("scopes go from the twin to its driver, each once", () => {
  const twin = { id: "default/desk", driver: "lamp@1.0.0", zone: "room" };
  const values = [value("a", "zone default/house"), value("b", "system default/aula"), value("c", "zone default/room"), value("d", "driver lamp")];
  expect(scopesOf(twin, values).map((s) => `${s.kind} ${s.id}`)).toEqual([
    "twin default/desk",
    "system default/aula",
    "zone default/room",
    "zone default/house",
    "driver lamp",
  ]);
});

test("what another scope gives need not be given by the twin", () => {
  const schema = { type: "object", required: ["token", "port", "tls"], properties: { poll_s: { type: "integer", default: 60 } } };
  const poll = create(SettingValueSchema, { name: "poll_s", source: "driver lamp", value: wrap(30) });
  const given = [poll, value("token", "zone default/house"), value("port", "twin default/desk"), value("tls/key", "driver lamp")];
  expect(withInherited(schema, given)?.required).toEqual(["port"]);
  expect(withInherited(schema, given)?.properties?.poll_s?.default).toBe(30);
  expect(schema.properties.poll_s.default).toBe(60);
  expect(withInherited(undefined, given)).toBeUndefined();
});

test("a change is told in words, a secret's without its values", () => {
  expect(change({ before: wrap(20), after: wrap(30), secret: false })).toBe("20 → 30");
  expect(change({ before: undefined, after: wrap(true), secret: false })).toBe("set to on");
  expect(change({ before: wrap("x"), after: undefined, secret: false })).toBe("removed, was x");
  expect(change({ before: wrap("***"), after: wrap("***"), secret: true })).toBe("secret, another");
});
