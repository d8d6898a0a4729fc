import { expect, test } from "vitest";

import { Connection } from "../../gen/pollux/v1/twin_pb";
import { isEmpty, message, read, write, type Filter } from "./filter";

const filter: Filter = { text: "hall", driver: "pjlink", model: "", zone: "default/floor-1", labels: ["a=b", "c=d=e"], status: "connected" };

test("a filter lives in the address", () => {
  expect(read(new URLSearchParams(write(filter).toString()))).toEqual(filter);
  expect(isEmpty(read(new URLSearchParams()))).toBe(true);
  expect(isEmpty(filter)).toBe(false);
});

test("it is sent as the API wants it", () => {
  const m = message(filter);
  expect(m.labels).toEqual({ a: "b", c: "d=e" });
  expect(m.connection).toBe(Connection.CONNECTED);
  expect(message({ ...filter, status: "faulty" })).toMatchObject({ faulty: true, connection: Connection.UNSPECIFIED });
});
