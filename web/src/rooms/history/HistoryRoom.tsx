import "./history.css";

import { ActionIcon, Button, SegmentedControl, Select, TextInput } from "@mantine/core";
import { useMemo, useState } from "react";

import { Lines, type Gaps } from "../../chart/Lines";
import { ranges, stepOf } from "../../chart/series";
import { useWord } from "../../frame/address";
import { RoomHead } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { dateTime } from "../../model/value";
import { CloseIcon } from "../../shell/icons";
import { Add } from "./Add";
import { Journal } from "./Journal";
import { csv, format, parse } from "./series";
import { historyTabs } from "./tabs";
import { compares, useLines, type Ask } from "./useLines";

const aggregates = ["avg", "min", "max", "sum", "count", "dev", "p50", "p95", "first", "last", "delta", "rate"];
const steps = [0, 5, 10, 60, 300, 900, 3600, 86_400];
const windows = [...ranges, { label: "30 d", seconds: 30 * 86_400 }];

/** The past of several properties side by side, with what else happened to their twins. */
export function HistoryRoom() {
  const [word, setWord] = useWord("of");
  const [seconds, setSeconds] = useWord("range");
  const [aggregate, setAggregate] = useWord("aggregate");
  const [step, setStep] = useWord("step");
  const [unit, setUnit] = useWord("unit");
  const [compare, setCompare] = useWord("compare");
  const [gaps, setGaps] = useWord("gaps");
  const [marked, setMarked] = useState<{ from: number; to: number }>();
  const list = useMemo(() => parse(word), [word]);
  const range = Number(seconds) || 3600;
  const window = marked ? (marked.to - marked.from) / 1000 : range;
  const ask: Ask = { list, range, marked, step: step ? Number(step) : stepOf(window), aggregate: aggregate || "avg", unit, compare };
  const { lines, from, to, errors, pending } = useLines(ask);
  return (
    <>
      <RoomHead title="History" tabs={historyTabs} note={list.length > 0 && `${dateTime(from)} to ${dateTime(to)}`}>
        {list.length > 0 && (
          <>
            <Button variant="default" disabled={lines.length === 0} onClick={() => save("history.csv", "text/csv", csv(lines))}>
              CSV
            </Button>
            <Button variant="default" disabled={lines.length === 0} onClick={() => save("history.json", "application/json", JSON.stringify(lines.map(({ label, unit: u, times, values }) => ({ label, unit: u, samples: times.map((t, i) => [new Date(t * 1000).toISOString(), values[i]]) })), null, 1))}>
              JSON
            </Button>
          </>
        )}
      </RoomHead>
      <section className="panel" aria-label="Series">
        <div className="toolbar">
          <Add onAdd={(s) => setWord(format([...list.filter((x) => x.twin !== s.twin || x.property !== s.property), s]))} />
        </div>
        {list.length > 0 && (
          <ul className="series" aria-label="Series">
            {list.map((s, i) => (
              <li key={`${s.twin} ${s.property}`}>
                <code>{s.twin}</code> <b>{s.property}</b>
                {errors[i] && <span className="bad">{errors[i]}</span>}
                <ActionIcon size="xs" variant="subtle" color="gray" aria-label={`Remove ${s.twin} ${s.property}`} onClick={() => setWord(format(list.filter((x) => x !== s)))}>
                  <CloseIcon size={12} />
                </ActionIcon>
              </li>
            ))}
          </ul>
        )}
      </section>
      {list.length === 0 ? (
        <div className="empty">
          <b>Choose a twin and one of its properties.</b>
          <span>Several stand in one chart, each unit on its own scale. Below it is what else happened to their twins.</span>
          <Try
            lines={[
              { what: "The last day of a property, a mean per hour", line: "pollux twin history lobby temperature --since 24h --step 1h" },
              { what: "What happened, in the order of time", line: "pollux history journal --twin lobby" },
            ]}
          />
        </div>
      ) : (
        <>
          <section className="panel" aria-label="Chart">
            <div className="toolbar">
              <SegmentedControl
                aria-label="Range"
                data={windows.map((r) => ({ value: String(r.seconds), label: r.label }))}
                value={marked ? "" : String(range)}
                onChange={(v) => {
                  setMarked(undefined);
                  setSeconds(v);
                }}
              />
              {marked && (
                <Button variant="light" color="amber" onClick={() => setMarked(undefined)}>
                  Back to now
                </Button>
              )}
              <Select aria-label="Aggregate" w={90} allowDeselect={false} data={aggregates} value={aggregate || "avg"} onChange={(v) => setAggregate(v === "avg" ? "" : (v ?? ""))} disabled={ask.step === 0} />
              <Select
                aria-label="Step"
                w={130}
                allowDeselect={false}
                data={[{ value: "auto", label: `step: ${label(stepOf(window))}` }, ...steps.map((s) => ({ value: String(s), label: label(s) }))]}
                value={step || "auto"}
                onChange={(v) => setStep(v === "auto" ? "" : (v ?? ""))}
              />
              <Select
                aria-label="Gaps"
                w={150}
                allowDeselect={false}
                data={[
                  { value: "across", label: "gaps: a line across" },
                  { value: "hold", label: "gaps: the last value" },
                  { value: "open", label: "gaps: stay open" },
                ]}
                value={gaps || "across"}
                onChange={(v) => setGaps(v === "across" ? "" : (v ?? ""))}
              />
              <Select aria-label="Compare with" w={170} clearable placeholder="compare with …" data={compares.map((c) => ({ value: c.value, label: c.label }))} value={compare || null} onChange={(v) => setCompare(v ?? "")} />
              <TextInput aria-label="Unit" w={120} placeholder="unit, as it is" title="UCUM or QUDT, such as [degF]; empty: each property’s own" defaultValue={unit} onBlur={(e) => setUnit(e.currentTarget.value.trim())} onKeyDown={(e) => e.key === "Enter" && setUnit(e.currentTarget.value.trim())} />
            </div>
            <Lines lines={lines} from={from / 1000} to={to / 1000} gaps={(gaps || "across") as Gaps} label="History" onSelect={(a, b) => setMarked({ from: Math.floor(a * 1000), to: Math.ceil(b * 1000) })} />
            {!pending && lines.every((l) => l.times.length === 0) && <p className="muted pad">No value in this time.</p>}
            {lines.some((l) => l.cut) && <p className="muted pad">More values than fit: of some lines the newest only. A step or a shorter time shows the whole.</p>}
          </section>
          <Journal twins={[...new Set(list.map((s) => s.twin))]} from={from} to={to} />
        </>
      )}
    </>
  );
}

function label(step: number): string {
  if (step === 0) return "each value";
  return step < 60 ? `${step} s` : step < 3600 ? `${step / 60} min` : step < 86_400 ? `${step / 3600} h` : `${step / 86_400} d`;
}

function save(name: string, type: string, text: string) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
