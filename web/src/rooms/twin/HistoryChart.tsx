import { Button, SegmentedControl } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useEffect, useMemo, useState } from "react";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import { Plot } from "../../chart/Plot";
import { hold, join, ranges, stepOf } from "../../chart/series";
import type { Property } from "../../gen/pollux/v1/twin_pb";
import { useNow } from "../../live/now";
import type { Point, Samples } from "../../live/samples";
import type { PropertyModel } from "../../model/thing";
import { unitSymbol } from "../../model/unit";
import { chartable, dateTime, millis, plain } from "../../model/value";

interface Props {
  id: string;
  property: PropertyModel;
  current: Property | undefined;
  samples: Samples;
}

/** Live points kept beside the history; the history is asked again each minute, so they never reach back far. */
const livePoints = 5000;

/** A property over time: a window that moves with the clock, or a range that somebody marked. */
export function HistoryChart({ id, property, current, samples }: Props) {
  const [seconds, setSeconds] = useState(300);
  // Both in milliseconds since the epoch; undefined: the window ends now.
  const [marked, setMarked] = useState<{ from: number; to: number }>();
  const now = useNow();
  const to = marked?.to ?? now;
  const from = marked?.from ?? now - seconds * 1000;
  const step = stepOf((to - from) / 1000);
  const history = useHistory(id, property.name, marked, seconds, step);
  const live = useLivePoints(samples, property.name);

  const value = chartable(plain(current?.value));
  const at = millis(current?.time);
  const data = useMemo(() => {
    const points = join(history.points, marked ? [] : live).filter((p) => p.time >= from && p.time <= to);
    const held = marked ? points : hold(points, from, to, value === undefined || at === undefined ? undefined : { time: at, value });
    return { times: held.map((p) => p.time / 1000), values: held.map((p) => p.value), samples: points.length };
  }, [history.points, live, marked, from, to, value, at]);
  const unit = property.unit || history.unit;

  return (
    <section className="panel chart" aria-label={`History of ${property.name}`}>
      <h2>
        {property.title}
        {unit && <span className="muted"> {unitSymbol(unit)}</span>}
        <span className="panel-tools">
          {marked && (
            <Button size="compact-xs" variant="light" color="amber" onClick={() => setMarked(undefined)}>
              Back to live
            </Button>
          )}
          <SegmentedControl
            aria-label="Range"
            data={ranges.map((r) => ({ value: String(r.seconds), label: r.label }))}
            value={marked ? "" : String(seconds)}
            onChange={(v) => {
              setMarked(undefined);
              setSeconds(Number(v));
            }}
          />
        </span>
      </h2>
      <Plot
        times={data.times}
        values={data.values}
        from={from / 1000}
        to={to / 1000}
        unit={unit}
        stepped={step === 0 || property.schema.type === "boolean"}
        binary={property.schema.type === "boolean"}
        label={`Chart of ${property.name}`}
        onSelect={(a, b) => setMarked({ from: Math.floor(a * 1000), to: Math.ceil(b * 1000) })}
      />
      <footer className="chart-foot muted">
        {history.error ? (
          <span role="alert">{history.error}</span>
        ) : marked ? (
          `${dateTime(from)} to ${dateTime(to)}`
        ) : (
          "Drag across the chart to look closer"
        )}
        <span>
          {data.samples} {step ? `points, one per ${step < 60 ? `${step} s` : `${step / 60} min`}` : "samples"}
        </span>
      </footer>
    </section>
  );
}

function useHistory(id: string, property: string, marked: { from: number; to: number } | undefined, seconds: number, step: number) {
  const query = useQuery({
    queryKey: ["history", id, property, marked ?? seconds],
    queryFn: async ({ signal }) => {
      const end = marked?.to ?? Date.now();
      const start = marked?.from ?? end - seconds * 1000;
      const answer = await twins.queryHistory(
        {
          id,
          property,
          start: timestampFromMs(start),
          end: timestampFromMs(end),
          step: step ? { seconds: BigInt(step), nanos: 0 } : undefined,
          limit: 20_000,
        },
        { signal },
      );
      const points: Point[] = answer.samples.map((s) => ({ time: millis(s.time) ?? 0, value: s.value }));
      return { points, unit: answer.unit };
    },
    refetchInterval: marked ? false : 60_000,
    placeholderData: keepPreviousData,
  });
  return {
    points: query.data?.points ?? none,
    unit: query.data?.unit ?? "",
    error: query.error ? `No history: ${explain(query.error)}` : undefined,
  };
}

const none: Point[] = [];

function useLivePoints(samples: Samples, property: string): Point[] {
  const [points, setPoints] = useState<Point[]>([]);
  useEffect(() => {
    let pending: Point[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const flush = () => {
      timer = undefined;
      const more = pending;
      pending = [];
      setPoints((before) => [...before, ...more].slice(-livePoints));
    };
    const stop = samples.subscribe(property, (point) => {
      pending.push(point);
      timer ??= setTimeout(flush, 200);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [samples, property]);
  return points;
}
