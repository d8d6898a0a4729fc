import type { GetStatusResponse, Node, Placement } from "../../gen/pollux/v1/cluster_pb";
import { count } from "../../model/value";
import { slotCount } from "./slots";

export const nameOf = (node: Pick<Node, "id" | "name">) => node.name || node.id;

export interface Verdict {
  text: string;
  tone: "good" | "warn" | "bad";
}

type Standing = Pick<GetStatusResponse, "failuresTolerated" | "failuresReason" | "votersAlive" | "quorum" | "voters">;

/** How many failures are survived, and why no more. */
export function survives(s: Standing): Verdict {
  const why = s.failuresReason.replace(/^no quorum: /, "");
  const reason = why && `: ${why}`;
  if (s.voters > 0 && s.votersAlive < s.quorum) return { text: `No quorum, nothing can be changed${reason}.`, tone: "bad" };
  const n = s.failuresTolerated;
  if (n === 0) return { text: `Survives no failure${reason}.`, tone: "warn" };
  return { text: `Survives ${n === 1 ? "1 failure" : `${n} failures`}, of whichever nodes${reason}.`, tone: "good" };
}

/** What a node is, in one word: one that drains and has no slots left is drained. */
export function stateOf(node: Pick<Node, "state" | "slots">): string {
  return node.state === "draining" && node.slots === 0 ? "drained" : node.state;
}

/** Whether a node takes slots: it is not on its way out, and its record says so even while gossip does not hear it. */
export function takes(node: Pick<Node, "state">): boolean {
  return node.state === "alive" || node.state === "suspect";
}

/** Whether it may be removed, or why not. */
export function removable(node: Pick<Node, "state" | "slots">): { ok: boolean; why: string } {
  if (node.state === "draining") return { ok: false, why: "It lives: stop it first, when it is drained." };
  if (!["dead", "left", "expelled"].includes(node.state)) return { ok: false, why: "It lives: drain and stop it first." };
  if (node.slots > 0) return { ok: false, why: "Its slots are not yet with others: wait until they are." };
  return { ok: true, why: "" };
}

/** A node's addresses by host, each with its ports: `10.0.0.5: http 8080, mqtt 1883`. */
export function addressLines(addresses: Readonly<Record<string, string>>): { host: string; ports: string }[] {
  const hosts = new Map<string, string[]>();
  for (const [name, address] of Object.entries(addresses).sort()) {
    const bare = address.replace(/^\w+:\/\//, "");
    const at = bare.lastIndexOf(":");
    if (at < 0) continue;
    const host = bare.slice(0, at);
    const scheme = address.startsWith("https:") ? "https" : name;
    hosts.set(host, [...(hosts.get(host) ?? []), `${scheme} ${bare.slice(at + 1)}`]);
  }
  return [...hosts].map(([host, ports]) => ({ host, ports: ports.join(", ") }));
}

/** How many slots a node is to have among those that take slots, itself included whatever it does now. */
export function fairShare(node: Node, nodes: readonly Node[]): number {
  const others = nodes.filter((n) => n.id !== node.id && takes(n));
  const weight = node.weight || 1;
  const all = others.reduce((sum, n) => sum + (n.weight || 1), weight);
  return Math.round((slotCount * weight) / all);
}

/** What a drain will do; no sentences where it cannot be done. */
export function drainText(node: Node, nodes: readonly Node[]): string[] {
  const others = nodes.filter((n) => n.id !== node.id && takes(n));
  if (others.length === 0) return [];
  const each = Math.round(node.slots / others.length);
  const equal = others.every((n) => (n.weight || 1) === (others[0]?.weight || 1));
  const split = others.length === 1 ? "" : equal ? `, about ${count(each)} each` : ", by their weights";
  return [
    `Its ${slotsText(node.slots)}, with ${plural(Number(node.actors), "actor")}, will go to ${listed(others.map(nameOf))}${split}.`,
    "Calls that run are finished first; calls that come meanwhile wait for a moment and go to the new owner.",
    "The node keeps running and voting, without twins, until you undrain it or stop it.",
  ];
}

export function undrainText(node: Node, nodes: readonly Node[]): string[] {
  const share = fairShare(node, nodes);
  return [
    `It will take its share again: about ${slotsText(share)} from the other nodes.`,
    "Calls to their twins wait for a moment and go to the new owner.",
  ];
}

/** What a change of leadership will do, to one node, or to whichever is nearest where `to` is empty. */
export function leaderText(to: string, from: string): string[] {
  return [
    `${from ? `${from} leads now; ` : ""}${to || "the voter that is nearest to it"} will lead.`,
    "Until it does, for a moment, nothing is committed: calls wait. No slot moves and nothing is lost.",
  ];
}

export function removeText(node: Node): string[] {
  const votes = node.role === "voter" || node.role === "leader" ? " It loses its vote, and the quorum is counted without it." : "";
  return [
    `${nameOf(node)} will be no member any more, for ever.${votes}`,
    "What it had is with the other nodes. To bring the machine back, start it with an empty data directory and a new join token.",
  ];
}

/** Where a twin lives. */
export function placeText(p: Placement): string {
  const node = p.nodeName || p.node;
  const goes = p.target && p.target !== p.node ? `, on its way to ${p.targetName || p.target} (${p.state})` : "";
  if (!node) return `nowhere just now: slot ${p.slot} has no owner${goes}`;
  return `on ${node}${goes}`;
}

/** `1 slot`, `5 461 slots`. */
export const slotsText = (n: number) => plural(n, "slot");

export function plural(n: number, what: string): string {
  return `${count(n)} ${what}${n === 1 ? "" : "s"}`;
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(names: readonly string[]): string {
  if (names.length < 2) return names[0] ?? "";
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

export interface Zone {
  name: string;
  nodes: Node[];
}

/** Nodes by availability zone, both by name; those without a zone last. */
export function zonesOf(nodes: readonly Node[]): Zone[] {
  const zones = new Map<string, Node[]>();
  for (const node of nodes) {
    const list = zones.get(node.availabilityZone) ?? [];
    list.push(node);
    zones.set(node.availabilityZone, list);
  }
  return [...zones]
    .map(([name, list]) => ({ name, nodes: list.sort((a, b) => nameOf(a).localeCompare(nameOf(b), "en", { numeric: true })) }))
    .sort((a, b) => (a.name === "" ? 1 : b.name === "" ? -1 : a.name.localeCompare(b.name, "en", { numeric: true })));
}
