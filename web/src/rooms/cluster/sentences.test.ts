import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { NodeSchema, PlacementSchema } from "../../gen/pollux/v1/cluster_pb";
import { addressLines, drainText, fairShare, leaderText, listed, placeText, removable, removeText, stateOf, survives, undrainText, zonesOf } from "./sentences";

const node = (init: MessageInitShape<typeof NodeSchema>) => create(NodeSchema, { state: "alive", name: init.id, weight: 1, ...init });

test("the first sentence says how many failures are survived, and why no more", () => {
  const s = (failuresTolerated: number, voters: number, votersAlive: number, failuresReason: string) =>
    survives({ failuresTolerated, voters, votersAlive, quorum: Math.floor(voters / 2) + 1, failuresReason });
  expect(s(1, 3, 3, "2 of 3 voters must answer, and 3 do")).toEqual({
    text: "Survives 1 failure, of whichever nodes: 2 of 3 voters must answer, and 3 do.",
    tone: "good",
  });
  expect(s(2, 5, 5, "").text).toBe("Survives 2 failures, of whichever nodes.");
  expect(s(0, 1, 1, "there is one node")).toEqual({ text: "Survives no failure: there is one node.", tone: "warn" });
  expect(s(0, 3, 1, "no quorum: 1 of 3 voters answer, 2 must")).toEqual({
    text: "No quorum, nothing can be changed: 1 of 3 voters answer, 2 must.",
    tone: "bad",
  });
});

test("a drain says whom the slots go to, and is not offered where nobody can take them", () => {
  const [a, b, c] = [node({ id: "a", slots: 5461 }), node({ id: "b" }), node({ id: "c", slots: 5000, actors: 1n })];
  expect(drainText(c, [a, b, c])[0]).toBe("Its 5\u202f000 slots, with 1 actor, will go to a and b, about 2\u202f500 each.");
  expect(drainText(c, [node({ id: "a", weight: 3 }), b, c])[0]).toContain("by their weights");
  expect(drainText(c, [a, c])[0]).toBe("Its 5\u202f000 slots, with 1 actor, will go to a.");
  expect(drainText(a, [a])).toEqual([]);
  expect(drainText(a, [a, node({ id: "b", state: "draining" }), node({ id: "c", state: "dead" })])).toEqual([]);
  expect(drainText(a, [a, node({ id: "b", state: "suspect" })])).toHaveLength(3);
});

test("a share is by weight, among those that take slots", () => {
  const drained = node({ id: "c", state: "draining" });
  const nodes = [node({ id: "a" }), node({ id: "b", weight: 2 }), drained, node({ id: "d", state: "left" })];
  expect(fairShare(drained, nodes)).toBe(4096);
  expect(undrainText(drained, nodes)[0]).toContain("4\u202f096 slots");
  expect(stateOf({ state: "draining", slots: 1 })).toBe("draining");
  expect(stateOf({ state: "draining", slots: 0 })).toBe("drained");
});

test("who lives or has slots is not removed", () => {
  expect(removable({ state: "alive", slots: 0 }).ok).toBe(false);
  expect(removable({ state: "draining", slots: 0 }).ok).toBe(false);
  expect(removable({ state: "dead", slots: 3 }).ok).toBe(false);
  expect(removable({ state: "left", slots: 0 }).ok).toBe(true);
  expect(removeText(node({ id: "c", role: "voter" }))[0]).toContain("loses its vote");
  expect(removeText(node({ id: "c", role: "" }))[0]).not.toContain("vote");
  expect(leaderText("", "a")[0]).toBe("a leads now; the voter that is nearest to it will lead.");
});

test("a node's addresses are told by host", () => {
  expect(addressLines({ mqtt: "10.0.0.5:1883", http: "https://10.0.0.5:8443", peer: "[fd00::5]:7947", odd: "none" })).toEqual([
    { host: "10.0.0.5", ports: "https 8443, mqtt 1883" },
    { host: "[fd00::5]", ports: "peer 7947" },
  ]);
  expect(addressLines({})).toEqual([]);
});

test("a twin is on its node, on its way, or nowhere", () => {
  const p = (init: MessageInitShape<typeof PlacementSchema>) => placeText(create(PlacementSchema, { slot: 7, ...init }));
  expect(p({ node: "n1", nodeName: "a", target: "n1", targetName: "a" })).toBe("on a");
  expect(p({ node: "n1", nodeName: "a", target: "n2", targetName: "b", state: "releasing" })).toBe("on a, on its way to b (releasing)");
  expect(p({ target: "n2", targetName: "b", state: "orphaned" })).toBe("nowhere just now: slot 7 has no owner, on its way to b (orphaned)");
});

test("nodes are by zone and name, those without a zone last", () => {
  const zones = zonesOf([
    node({ id: "n10", availabilityZone: "b" }), node({ id: "x" }), node({ id: "n2", availabilityZone: "b" }), node({ id: "n1", availabilityZone: "a" }),
  ]);
  expect(zones.map((z) => [z.name, z.nodes.map((n) => n.id)])).toEqual([["a", ["n1"]], ["b", ["n2", "n10"]], ["", ["x"]]]);
  expect([listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])]).toEqual(["", "a", "a and b", "a, b and c"]);
});
