import { FiringState, type Firing } from "../../gen/pollux/v1/automation_pb";
import { millis } from "../../model/value";

/** A day is its date, such as 2026-12-24; it belongs to no zone. */
export type Day = string;

const dayMs = 86_400_000;
/** Zones are at most so far from UTC, rounded up. */
const farthest = 15 * 3_600_000;

const noon = (day: Day) => Date.parse(`${day}T12:00:00Z`);
const dated = (ms: number): Day => new Date(ms).toISOString().slice(0, 10);

export const shift = (day: Day, days: number): Day => dated(noon(day) + days * dayMs);

/** The same day of another month, or its last one. */
export function shiftMonth(day: Day, months: number): Day {
  const at = new Date(noon(day));
  const last = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + months + 1, 0)).getUTCDate();
  return dated(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + months, Math.min(at.getUTCDate(), last), 12));
}

/** Monday to Sunday around a day. */
export function weekOf(day: Day): Day[] {
  const monday = shift(day, -((new Date(noon(day)).getUTCDay() + 6) % 7));
  return Array.from({ length: 7 }, (_, i) => shift(monday, i));
}

/** The whole weeks in which a day's month is. */
export function monthOf(day: Day): Day[] {
  const first = `${day.slice(0, 8)}01`;
  const days: Day[] = [];
  for (let week = weekOf(first); ; week = weekOf(shift(week[0] as Day, 7))) {
    if (days.length > 0 && (week[0] as Day).slice(0, 7) !== day.slice(0, 7)) return days;
    days.push(...week);
  }
}

/** A time that holds these days in whichever zone. */
export function spanOf(days: Day[]): { start: number; end: number } {
  const start = noon(days[0] as Day) - dayMs / 2;
  return { start: start - farthest, end: start + days.length * dayMs + farthest };
}

/** What the clocks of a zone show: the day, the hour, and the time of day. */
export function clockOf(zone: string): (ms: number) => { day: Day; hour: number; time: string } {
  const form = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return (ms) => {
    const p = Object.fromEntries(form.formatToParts(ms).map((x) => [x.type, x.value]));
    return { day: `${p.year}-${p.month}-${p.day}`, hour: Number(p.hour), time: `${p.hour}:${p.minute}` };
  };
}

/** Firings of one schedule that stand together in a cell. */
export interface Entry {
  first: Firing;
  time: string;
  /** How many they are; with `more` there are more of them. */
  count: number;
  more: boolean;
  state: FiringState;
  notes: string[];
  shifted: boolean;
}

/** The worst of a cell is what it shows. */
const rank = [FiringState.FAILED, FiringState.OPEN, FiringState.PLANNED, FiringState.DONE, FiringState.LEFT_OUT];

/** Puts firings together that are of one schedule and one cell. Cells are named by `cellOf`; undefined leaves a firing out. */
export function entries(firings: readonly Firing[], timeOf: (ms: number) => string, cellOf: (ms: number) => string | undefined): Map<string, Entry[]> {
  const cells = new Map<string, Entry[]>();
  const sorted = firings.map((f) => ({ f, at: millis(f.time) ?? 0 })).sort((a, b) => a.at - b.at);
  for (const { f, at } of sorted) {
    const cell = cellOf(at);
    if (cell === undefined) continue;
    const list = cells.get(cell) ?? [];
    cells.set(cell, list);
    const known = list.find((e) => e.first.schedule === f.schedule);
    if (!known) {
      list.push({ first: f, time: timeOf(at), count: 1, more: f.more, state: f.state, notes: f.note ? [f.note] : [], shifted: f.shifted });
      continue;
    }
    known.count++;
    known.more ||= f.more;
    known.shifted ||= f.shifted;
    if (f.note && !known.notes.includes(f.note)) known.notes.push(f.note);
    if (rank.indexOf(f.state) < rank.indexOf(known.state)) known.state = f.state;
  }
  return cells;
}
