import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { OutboxLaneSchema } from "../../gen/pollux/v1/cluster_pb";
import { needs } from "./attention";

const calm = { faultyTwins: 0n, quarantinedTwins: 0n, nodes: 3, nodesAlive: 3, silent: [], unmetSelectors: {}, quotaWarnings: [], diskWarnings: [], outboxHeld: [], voters: 3, votersAlive: 3, quorum: 2 };

test("nothing is said where all is well", () => {
  expect(needs(calm, 0n)).toEqual([]);
});

test("what is graver comes first", () => {
  const list = needs({ ...calm, faultyTwins: 2n, nodesAlive: 2, votersAlive: 2, quotaWarnings: ["demo: 81 % of 10 twins"], diskWarnings: ["node a has 1.9 GiB of disk left"], unmetSelectors: { "site=b": 1 } }, 1n);
  expect(list.map((n) => n.text)).toEqual([
    "1 node does not answer",
    "2 twins have a fault",
    "1 twin has no node to live on: none satisfies site=b",
    "node a has 1.9 GiB of disk left",
    "demo: 81 % of 10 twins",
    "1 sender that nobody knows waits in the inbox",
  ]);
  expect(list.map((n) => n.path)).toEqual(["/cluster", "/twins?status=faulty", "/cluster", "/cluster", "/retention", "/inbox"]);
});

test("what stands still is in the room of what is told", () => {
  expect(needs({ ...calm, outboxHeld: [create(OutboxLaneSchema, { to: "default/alerts" })] }, 0)).toEqual([
    { text: "1 destination does not take what twins have said", path: "/notifiers", grave: false },
  ]);
});

test("without a quorum nothing is committed", () => {
  expect(needs({ ...calm, nodesAlive: 1, votersAlive: 1 }, 0)).toHaveLength(2);
});
