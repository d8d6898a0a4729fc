import type { IngestCount } from "../../gen/pollux/v1/ingest_pb";

/** The counters of a door at a time, in milliseconds since the epoch. */
export interface Look {
  time: number;
  counts: readonly IngestCount[];
}

/** What a list of looks keeps: five minutes at one each 2 s. */
export const kept = 150;

export const doorOf = (c: IngestCount) => `${c.project} ${c.door}`;

/** Sum of all doors; received is what the others are together. */
export function sum(counts: readonly IngestCount[]) {
  const total = { received: 0n, stored: 0n, refused: 0n, inbox: 0n, duplicate: 0n, inFlight: 0n };
  for (const c of counts) {
    total.received += c.received;
    total.stored += c.stored;
    total.refused += c.refused;
    total.inbox += c.inbox;
    total.duplicate += c.duplicate;
    total.inFlight += c.inFlight;
  }
  return total;
}

/** Messages per second between each two looks; of one door, or of all. Counters that went back (another node answered) give 0. */
export function rates(looks: readonly Look[], door?: string): { time: number; rate: number }[] {
  const total = (look: Look) => sum(door ? look.counts.filter((c) => doorOf(c) === door) : look.counts).received;
  return looks.slice(1).map((look, i) => {
    const before = looks[i] as Look;
    const seconds = (look.time - before.time) / 1000;
    return { time: look.time, rate: seconds > 0 ? Math.max(0, Number(total(look) - total(before))) / seconds : 0 };
  });
}

/** The rate of the last 10 s, or undefined before there are two looks. */
export function rateNow(looks: readonly Look[], door?: string): number | undefined {
  const last = looks.at(-1);
  if (!last || looks.length < 2) return undefined;
  const recent = rates(looks.filter((l) => l.time >= last.time - 11_000), door);
  if (recent.length === 0) return 0;
  return recent.reduce((n, r) => n + r.rate, 0) / recent.length;
}
