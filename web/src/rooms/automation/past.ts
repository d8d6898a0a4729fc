import { AlarmSeverity, type AlarmBar, type AlarmSpell } from "../../gen/pollux/v1/automation_pb";
import { millis } from "../../model/value";

/** How far back is looked, with the width of a bar then. */
export const spans = [
  { word: "1h", label: "hour", ms: 3_600_000, step: 60 },
  { word: "24h", label: "24 hours", ms: 86_400_000, step: 3600 },
  { word: "7d", label: "7 days", ms: 7 * 86_400_000, step: 86_400 },
  { word: "30d", label: "30 days", ms: 30 * 86_400_000, step: 86_400 },
  { word: "90d", label: "90 days", ms: 90 * 86_400_000, step: 86_400 },
  { word: "365d", label: "year", ms: 365 * 86_400_000, step: 7 * 86_400 },
] as const;

export type PastSpan = (typeof spans)[number];

/** The span of a word of the address; without one a week. */
export const spanOf = (word: string): PastSpan => spans.find((s) => s.word === word) ?? spans[2];

/** Severities from the gravest on, as bars are stacked. */
export const severities = ["critical", "error", "warning", "info"] as const;

/** A length of time in its two largest units, such as 1 h 05 min; a dash where there is none. */
export function lasting(ms: number | undefined): string {
  if (ms === undefined) return "–";
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)} s`;
  const two = (big: number, small: number, a: string, b: string) => `${big} ${a} ${String(small).padStart(2, "0")} ${b}`;
  if (s < 3600) return two(Math.floor(s / 60), Math.floor(s % 60), "min", "s");
  if (s < 48 * 3600) return two(Math.floor(s / 3600), Math.floor((s % 3600) / 60), "h", "min");
  return two(Math.floor(s / 86_400), Math.floor((s % 86_400) / 3600), "d", "h");
}

/** A protobuf Duration in milliseconds. */
export function durationMs(d: { seconds: bigint; nanos: number } | undefined): number | undefined {
  return d && Number(d.seconds) * 1000 + d.nanos / 1e6;
}

/** What was raised in a bar, in all. */
export const raisedIn = (bar: AlarmBar): number => Object.values(bar.raised).reduce((sum, n) => sum + Number(n), 0);

/** A spell in a picture of a span: where it begins and how long it is, in hundredths; `seen` is where somebody acknowledged it. */
export interface Stretch {
  spell: AlarmSpell;
  left: number;
  width: number;
  seen?: number;
  open: boolean;
}

/** Spells by alarm, the one that came last first, each laid into the span. */
export function lanes(spells: readonly AlarmSpell[], start: number, end: number): { alarm: string; text: string; stretches: Stretch[] }[] {
  const at = (ms: number) => (100 * (Math.min(Math.max(ms, start), end) - start)) / (end - start);
  const byAlarm = new Map<string, { alarm: string; text: string; stretches: Stretch[] }>();
  for (const spell of spells) {
    const lane = byAlarm.get(spell.alarm) ?? { alarm: spell.alarm, text: spell.text, stretches: [] };
    byAlarm.set(spell.alarm, lane);
    const left = at(millis(spell.raiseTime) ?? start);
    const seen = millis(spell.acknowledgeTime);
    const cleared = millis(spell.clearTime);
    lane.stretches.push({ spell, left, width: at(cleared ?? end) - left, seen: seen !== undefined && seen <= end ? at(seen) : undefined, open: cleared === undefined || cleared > end });
  }
  return [...byAlarm.values()];
}

export const severityWord = (s: AlarmSeverity): string => AlarmSeverity[s].toLowerCase();
