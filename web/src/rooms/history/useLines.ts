import { useQueries } from "@tanstack/react-query";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useMemo } from "react";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import type { LineData } from "../../chart/Lines";
import { useNow } from "../../live/now";
import { millis } from "../../model/value";
import type { SeriesId } from "./series";

/** What is asked of the history. Times in milliseconds since the epoch, the rest in seconds. */
export interface Ask {
  list: readonly SeriesId[];
  range: number;
  marked: { from: number; to: number } | undefined;
  /** 0: each value. */
  step: number;
  aggregate: string;
  /** Empty: the property's own. */
  unit: string;
  /** One of compares, or empty. */
  compare: string;
}

export const compares = [
  { value: "range", label: "the time just before", seconds: 0 },
  { value: "day", label: "the day before", seconds: 86_400 },
  { value: "week", label: "the week before", seconds: 7 * 86_400 },
];

/** How often a window that ends now moves on. */
const every = 10_000;

/** The lines of all series, and of the time that they are compared with, moved onto this one. */
export function useLines(ask: Ask) {
  const now = useNow();
  const to = ask.marked?.to ?? Math.floor(now / every) * every;
  const from = ask.marked?.from ?? to - ask.range * 1000;
  const found = compares.find((c) => c.value === ask.compare);
  const shift = found ? (found.seconds ? found.seconds * 1000 : to - from) : 0;
  const wanted = ask.list.flatMap((s, colour) => [{ s, colour, shift: 0 }, ...(shift ? [{ s, colour, shift }] : [])]);
  const results = useQueries({
    queries: wanted.map(({ s, colour, shift: by }) => ({
      queryKey: ["history lines", s.twin, s.property, from, to, by, ask.step, ask.aggregate, ask.unit],
      queryFn: ({ signal }: { signal: AbortSignal }) => read(s, colour, from, to, by, ask, signal),
      placeholderData: (before: LineData | undefined) => before,
      staleTime: Infinity,
      gcTime: 60_000,
    })),
    combine: (all) => ({ data: all.map((r) => r.data), errors: all.map((r) => r.error), pending: all.some((r) => r.isPending) }),
  });
  const lines = useMemo(() => results.data.filter((l) => l !== undefined), [results.data]);
  const errors = ask.list.map((_, i) => {
    const at = wanted.findIndex((w) => w.colour === i && w.shift === 0);
    const error = results.errors[at];
    return error ? explain(error) : undefined;
  });
  return { lines, from, to, errors, pending: results.pending };
}

async function read(s: SeriesId, colour: number, from: number, to: number, shift: number, ask: Ask, signal: AbortSignal): Promise<LineData> {
  const answer = await twins.queryHistory(
    {
      id: s.twin,
      property: s.property,
      start: timestampFromMs(from - shift),
      end: timestampFromMs(to - shift),
      step: ask.step ? { seconds: BigInt(ask.step), nanos: 0 } : undefined,
      aggregate: ask.step ? ask.aggregate : "",
      unit: ask.unit,
      limit: 20_000,
    },
    { signal },
  );
  const line: LineData = { label: `${s.twin} ${s.property}${shift ? ", before" : ""}`, unit: answer.unit, colour, before: shift > 0, cut: answer.truncated, times: [], values: [] };
  let last = 0;
  for (const x of answer.samples) {
    const time = ((millis(x.time) ?? 0) + shift) / 1000;
    // A step without a value is a gap, not a line.
    if (ask.step && last && time - last > ask.step * 1.5) {
      line.times.push(last + ask.step);
      line.values.push(null);
    }
    line.times.push(time);
    line.values.push(x.value);
    last = time;
  }
  return line;
}
