import { Button, SegmentedControl } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { analytics } from "../../api/client";
import { Lines, type LineData } from "../../chart/Lines";
import { Trouble } from "../../frame/Room";
import { TwinInput } from "../../frame/TwinInput";
import { DetectorSchema, type Detector, type TryDetectorResponse } from "../../gen/pollux/v1/analytics_pb";
import { full, split } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { kindOf } from "./kinds";

const spans = [
  { label: "24 h", seconds: 86_400 },
  { label: "7 d", seconds: 7 * 86_400 },
  { label: "14 d", seconds: 14 * 86_400 },
  { label: "60 d", seconds: 60 * 86_400 },
];

interface Tried {
  answer: TryDetectorResponse;
  from: number;
  to: number;
}

/** Runs a detector over what history has of a twin: its score over the readings, and what it would have found. */
export function Trial({ detector, project }: { detector: Detector; project: string }) {
  const [twin, setTwin] = useState(detector.of?.twins[0] ?? "");
  const [span, setSpan] = useState("14 d");
  const run = useMutation({
    mutationFn: async (): Promise<Tried> => {
      const to = Date.now() / 1000;
      const from = to - (spans.find((s) => s.label === span)?.seconds ?? 86_400);
      const given = create(DetectorSchema, { ...detector, id: detector.id || `${project}/try`, revision: 0n });
      const answer = await analytics.tryDetector({ detector: given, twin: full(twin), start: timestampFromMs(from * 1000), end: timestampFromMs(to * 1000) });
      return { answer, from, to };
    },
  });
  return (
    <section aria-label="Try on history">
      <h3 className="automation-head">Try on history</h3>
      <div className="pad one-line">
        <TwinInput label="Twin to try" project={project} value={twin} onChange={setTwin} />
        <SegmentedControl aria-label="How far back" size="xs" data={spans.map((s) => s.label)} value={span} onChange={setSpan} />
        <Button variant="default" disabled={!twin || !detector.property} loading={run.isPending} onClick={() => run.mutate()}>
          Try
        </Button>
      </div>
      <Trouble error={run.error} inside />
      {run.data && <Outcome key={run.data.to} tried={run.data} detector={detector} />}
    </section>
  );
}

function Outcome({ tried, detector }: { tried: Tried; detector: Detector }) {
  const { answer, to } = tried;
  const first = (millis(answer.points[0]?.time) ?? 0) / 1000;
  const from = Math.max(tried.from, first - (to - first) / 50);
  const lines = useMemo(() => linesOf(answer, detector), [answer, detector]);
  const [shown, show] = useState<[number, number]>([from, to]);
  if (answer.readings === 0n) return <p className="muted pad">History has no readings of it in this time.</p>;
  return (
    <>
      <p className="pad" role="status">
        {count(answer.readings)} readings, {count(answer.judged)} judged, <b>{answer.anomalies.length === 1 ? "1 anomaly" : `${count(BigInt(answer.anomalies.length))} anomalies`}</b>
        {answer.judged === 0n && <span className="muted">; it was still learning</span>}
        {answer.truncated && <span className="muted">; older readings are left out</span>}
      </p>
      <Lines lines={lines} from={shown[0]} to={shown[1]} gaps="across" label="Score over readings" onSelect={(a, b) => show([a, b])} />
      {(shown[0] !== from || shown[1] !== to) && (
        <div className="pad">
          <Button size="xs" variant="default" onClick={() => show([from, to])}>
            The whole time
          </Button>
        </div>
      )}
      <ol className="automation-next" aria-label="Anomalies">
        {answer.anomalies.slice(-50).map((a, i) => (
          <li key={i}>
            {dateTime(millis(a.start))} – {dateTime(millis(a.end))}, score {Number(a.score.toPrecision(3))}
          </li>
        ))}
      </ol>
    </>
  );
}

/** The readings, what was expected of them, and at the right the score; of statistics the mean. */
function linesOf(answer: TryDetectorResponse, detector: Detector): LineData[] {
  const { name, threshold } = kindOf(detector.kind);
  const times = answer.points.map((p) => (millis(p.time) ?? 0) / 1000);
  const line = (label: string, unit: string, colour: number, value: (i: number) => number | null): LineData => ({ label, unit, times, colour, values: times.map((_, i) => value(i)) });
  const at = (i: number) => answer.points[i];
  const all = [line(detector.property, "", 0, (i) => (at(i)?.none ? null : (at(i)?.value ?? null)))];
  if (name === "statistics") return [...all, line("mean", "", 1, (i) => (at(i)?.ready ? (at(i)?.mean ?? null) : null))];
  if (["ewma", "seasonal", "shift"].includes(name)) all.push({ ...line("expected", "", 2, (i) => (at(i)?.ready ? (at(i)?.expected ?? null) : null)), before: true });
  if (threshold > 0) all.push(line("score", "score", 1, (i) => (at(i)?.ready ? (at(i)?.score ?? null) : null)));
  return all;
}

/** The project that a detector is in, or will be. */
export function projectOf(id: string): string {
  return split(full(id || "x")).project;
}
