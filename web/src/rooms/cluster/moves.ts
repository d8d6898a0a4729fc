import type { Move } from "../../gen/pollux/v1/cluster_pb";
import { millis } from "../../model/value";

/** Hand-overs of slots from one node to another that belong together in time, such as those of one drain. */
export interface Passage {
  key: string;
  from: string;
  to: string;
  slots: number[];
  /** Of them, those that are over. */
  done: number;
  /** What is awaited, and by how many slots, the most frequent first. */
  awaited: [string, number][];
  /** Milliseconds since the epoch; no end while one of them runs. */
  begin: number;
  end?: number;
}

/** Hand-overs this close together, in milliseconds, are one passage. */
const gap = 5000;

/** Puts hand-overs of slots together: those that run first, then the newest. */
export function passages(moves: readonly Move[]): Passage[] {
  const latest = new Map<string, Passage & { open: number; waits: Map<string, number>; until: number }>();
  const all: Passage[] = [];
  const timed = moves.map((move) => ({ move, begin: millis(move.beginTime) ?? 0, end: millis(move.endTime) }));
  timed.sort((a, b) => a.begin - b.begin);
  for (const { move, begin, end } of timed) {
    const pair = `${move.from}>${move.to}`;
    let p = latest.get(pair);
    if (!p || (p.open === 0 && begin > p.until + gap)) {
      const { from, to } = { from: move.fromName || move.from, to: move.toName || move.to };
      p = { key: `${pair}@${begin}`, from, to, slots: [], done: 0, awaited: [], begin, open: 0, waits: new Map(), until: begin };
      latest.set(pair, p);
      all.push(p);
    }
    p.slots.push(move.slot);
    if (end === undefined) {
      p.open++;
      if (move.awaited) p.waits.set(move.awaited, (p.waits.get(move.awaited) ?? 0) + 1);
    } else {
      p.done++;
      p.until = Math.max(p.until, end);
    }
    p.end = p.open ? undefined : p.until;
    p.awaited = [...p.waits].sort((a, b) => b[1] - a[1]);
  }
  return all.sort((a, b) => newest(a, b) || a.key.localeCompare(b.key));
}

function newest(a: Passage, b: Passage): number {
  if ((a.end === undefined) !== (b.end === undefined)) return a.end === undefined ? -1 : 1;
  return (b.end ?? b.begin) - (a.end ?? a.begin);
}

/** Who or what a node waits for while it hands over: the sentences of its running hand-overs, the most frequent first. */
export function awaitedBy(moves: readonly Move[], node: string): string[] {
  const waits = new Map<string, number>();
  for (const m of moves) {
    if (m.from === node && !m.endTime && m.awaited) waits.set(m.awaited, (waits.get(m.awaited) ?? 0) + 1);
  }
  return [...waits].sort((a, b) => b[1] - a[1]).map(([text]) => text);
}
