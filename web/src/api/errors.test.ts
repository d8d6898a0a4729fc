import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";

import { ErrorInfoSchema } from "../gen/pollux/v1/error_pb";
import { explain, infoOf, passing, placeOf, unanswered } from "./errors";

const wrong = (path: string) =>
  new ConnectError("invalid", Code.InvalidArgument, undefined, [{ desc: ErrorInfoSchema, value: { reason: "invalid", path } }]);

test("the node's sentence is shown, and one of ours where nobody answered", () => {
  expect(explain(new ConnectError("settings: /port: must be 1 or more", Code.InvalidArgument))).toBe("settings: /port: must be 1 or more");
  expect(explain(new TypeError("Failed to fetch"))).toBe("The node does not answer.");
  expect(explain(new ConnectError("", Code.PermissionDenied))).toBe("Your key does not allow this.");
});

test("what was refused is not tried again, what got lost is", () => {
  expect(passing(new TypeError("Failed to fetch"))).toBe(true);
  expect(passing(new ConnectError("x", Code.Unavailable))).toBe(true);
  expect(passing(new ConnectError("x", Code.NotFound))).toBe(false);
  expect(unanswered(new TypeError("Failed to fetch"))).toBe(true);
  expect(unanswered(new ConnectError("no such twin", Code.NotFound))).toBe(false);
});

test("the place of an error is the form's path", () => {
  expect(placeOf(wrong("/settings/port"))).toBe("/port");
  expect(placeOf(wrong("/uri"), ["id", "uri"])).toBe("#uri");
  expect(placeOf(wrong("/scenes/0"))).toBe("/scenes/0");
  expect(placeOf(new ConnectError("x", Code.Internal))).toBeUndefined();
  expect(infoOf(wrong("/a"))?.reason).toBe("invalid");
});
