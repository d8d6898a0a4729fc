import type { Move, SlotMap } from "../../gen/pollux/v1/cluster_pb";
import { millis } from "../../model/value";

/** Hand-overs of slots from one node to another that belong together in time, such as those of one drain. */
export interface Passage {
  key: string;
  from: string;
  to: string;
  /** Slots that were handed over; of a passage that runs, those that are still to be. */
  slots: number[];
  /** Milliseconds since the epoch; undefined where it is not known. */
  begin?: number;
  /** Undefined while it runs. */
  end?: number;
  /** What is awaited, the most frequent first. */
  awaited: string[];
}

/** Hand-overs this close together, in milliseconds, are one passage. */
const gap = 5000;

/** What is on its way now, by the map, which knows every slot; the hand-overs tell since when, and who is awaited. */
export function running(map: SlotMap | undefined, moves: readonly Move[]): Passage[] {
  if (!map) return [];
  const all = new Map<string, Passage>();
  const name = (n: number) => map.names[n - 1] || map.nodes[n - 1] || "";
  for (let slot = 0; slot < map.owners.length; slot++) {
    const owner = map.owners[slot] ?? 0;
    const target = map.targets[slot] ?? 0;
    if (owner === target || target === 0) continue;
    const key = `${map.nodes[owner - 1] ?? ""}>${map.nodes[target - 1]}`;
    let p = all.get(key);
    if (!p) all.set(key, (p = { key, from: name(owner), to: name(target), slots: [], awaited: [] }));
    p.slots.push(slot);
  }
  const waits = new Map<string, string[]>();
  for (const move of moves) {
    const p = all.get(`${move.from}>${move.to}`);
    if (!p || move.endTime) continue;
    const begin = millis(move.beginTime);
    if (begin !== undefined && begin < (p.begin ?? Infinity)) p.begin = begin;
    if (!move.awaited) continue;
    const list = waits.get(p.key) ?? [];
    list.push(move.awaited);
    waits.set(p.key, list);
  }
  for (const [key, list] of waits) (all.get(key) as Passage).awaited = frequent(list);
  return [...all.values()].sort((a, b) => b.slots.length - a.slots.length || a.key.localeCompare(b.key));
}

/** Hand-overs that ended, put together, the newest first. */
export function passages(moves: readonly Move[]): Passage[] {
  const latest = new Map<string, Passage & { end: number }>();
  const all: (Passage & { end: number })[] = [];
  const timed = moves.flatMap((move) => {
    const end = millis(move.endTime);
    return end === undefined ? [] : [{ move, begin: millis(move.beginTime) ?? end, end }];
  });
  timed.sort((a, b) => a.begin - b.begin || a.end - b.end);
  for (const { move, begin, end } of timed) {
    const pair = `${move.from}>${move.to}`;
    let p = latest.get(pair);
    if (!p || begin > p.end + gap) {
      p = { key: `${pair}@${begin}`, from: move.fromName || move.from, to: move.toName || move.to, slots: [], begin, end, awaited: [] };
      latest.set(pair, p);
      all.push(p);
    }
    p.slots.push(move.slot);
    p.end = Math.max(p.end, end);
  }
  return all.sort((a, b) => b.end - a.end || a.key.localeCompare(b.key));
}

/** Who or what a node waits for while it hands over: the sentences of its running hand-overs, the most frequent first. */
export function awaitedBy(moves: readonly Move[], node: string): string[] {
  return frequent(moves.flatMap((m) => (m.from === node && !m.endTime && m.awaited ? [m.awaited] : [])));
}

/** Each text once, the most frequent first. */
function frequent(texts: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([text]) => text);
}
