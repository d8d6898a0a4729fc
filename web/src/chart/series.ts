import type { Point } from "../live/samples";

/** A window of time that a chart shows, in seconds. */
export interface Range {
  label: string;
  seconds: number;
}

export const ranges: Range[] = [
  { label: "5 m", seconds: 300 },
  { label: "15 m", seconds: 900 },
  { label: "1 h", seconds: 3600 },
  { label: "6 h", seconds: 6 * 3600 },
  { label: "24 h", seconds: 86_400 },
  { label: "7 d", seconds: 7 * 86_400 },
];

/** Step of a window: none (raw samples) for short ones, else about 600 points of a round length. */
export function stepOf(seconds: number): number {
  if (seconds <= 900) return 0;
  const least = seconds / 600;
  return [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400].find((s) => s >= least) ?? 86_400;
}

/** History and what came live since, as one ascending line without repeats. Where both know a time, live wins. */
export function join(history: Point[], live: Point[]): Point[] {
  const merged = new Map<number, number>();
  for (const p of history) merged.set(p.time, p.value);
  for (const p of live) merged.set(p.time, p.value);
  return [...merged].map(([time, value]) => ({ time, value })).sort((a, b) => a.time - b.time);
}

/**
 * A property holds its value until the next one: the line is drawn on to `now` from the newest point. With no point in
 * sight the current value, if it is older than the window, makes a flat line.
 */
export function hold(points: Point[], from: number, now: number, current: Point | undefined): Point[] {
  const last = points.at(-1);
  if (last) return last.time < now ? [...points, { time: now, value: last.value }] : points;
  if (!current || current.time > now) return points;
  return [
    { time: Math.max(from, current.time), value: current.value },
    { time: now, value: current.value },
  ];
}
