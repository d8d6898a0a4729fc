import { Button, Loader, NativeSelect, SegmentedControl } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { useSearchParams } from "wouter";

import { automation } from "../../api/client";
import { useWord } from "../../frame/address";
import { useProject } from "../../frame/project";
import { Trouble } from "../../frame/Room";
import { FiringState, type ClockChange, type Firing } from "../../gen/pollux/v1/automation_pb";
import { useNow } from "../../live/now";
import { split } from "../../model/id";
import { millis } from "../../model/value";
import { clockOf, entries, monthOf, shift, shiftMonth, spanOf, weekOf, type Day, type Entry } from "./days";

const own = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const weekdays = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const monthName = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" });
const hours = Array.from({ length: 24 }, (_, i) => i);
/** How many schedules a day of a month names. */
const named = 4;

const words: Record<FiringState, string> = {
  [FiringState.UNSPECIFIED]: "",
  [FiringState.PLANNED]: "planned",
  [FiringState.LEFT_OUT]: "left out",
  [FiringState.OPEN]: "goes on",
  [FiringState.DONE]: "done",
  [FiringState.FAILED]: "failed",
};

interface Props {
  view: "month" | "week";
  setView: (view: string) => void;
  /** Zones of the schedules, and their projects. */
  zones: string[];
  projects: string[];
  chosen: string;
  onChoose: (id: string) => void;
}

/** Every page of what a calendar shows. */
function useFirings(days: Day[], zone: string, project: string, perDay: number) {
  const { start, end } = spanOf(days);
  return useQuery({
    queryKey: ["schedule", "calendar", start, end, zone, project, perDay],
    queryFn: async ({ signal }) => {
      const firings: Firing[] = [];
      const changes = new Map<string, ClockChange>();
      const faults: Record<string, string> = {};
      const at = (ms: number) => ({ seconds: BigInt(ms / 1000), nanos: 0 });
      for (let pageToken = ""; ; ) {
        const page = await automation.listFirings({ start: at(start), end: at(end), zone, project, perDay, pageSize: 5000, pageToken }, { signal });
        firings.push(...page.firings);
        for (const c of page.clockChanges) changes.set(`${c.zone} ${c.time?.seconds}`, c);
        Object.assign(faults, page.faults);
        pageToken = page.nextPageToken;
        if (!pageToken) return { firings, changes: [...changes.values()], faults };
      }
    },
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });
}

/** What is due on which day: exceptions, nights when clocks are set, and what was done. */
export function Calendar({ view, setView, zones, projects, chosen, onChoose }: Props) {
  const [inZone, setZone] = useWord("in");
  const [project, setProject] = useProject();
  const [word, setDay] = useWord("day");
  const [, setWords] = useSearchParams();
  const zone = inZone || own;
  const clock = useMemo(() => clockOf(zone), [zone]);
  const today = clock(useNow()).day;
  const day = /^\d{4}-\d{2}-\d{2}$/.test(word) ? word : today;
  const days = view === "month" ? monthOf(day) : weekOf(day);
  const { data, isPending, error } = useFirings(days, zone, project, view === "month" ? 12 : 48);
  const move = (by: number) => setDay(view === "month" ? shiftMonth(day, by) : shift(day, 7 * by));
  const changed = (d: Day) => (data?.changes ?? []).filter((c) => clock(millis(c.time) ?? 0).day === d);
  const inSight = new Set(days);
  const shown = (data?.firings ?? []).filter((f) => inSight.has(clock(millis(f.time) ?? 0).day));
  const cells = entries(
    shown,
    (ms) => clock(ms).time,
    (ms) => (view === "month" ? clock(ms).day : `${clock(ms).day} ${clock(ms).hour}`),
  );
  // Both words at once: a word that is set does not know of another one that was set a moment ago.
  const open = (d: Day) =>
    setWords(
      (before) => {
        before.set("day", d);
        before.set("view", "week");
        return before;
      },
      { replace: true },
    );
  const common = { days, today, cells, changed, chosen, onChoose };
  return (
    <section className="panel" aria-label="Calendar">
      <h2 className="cal-head">
        <Button variant="default" size="compact-sm" aria-label="Before" onClick={() => move(-1)}>
          ‹
        </Button>
        <Button variant="default" size="compact-sm" onClick={() => setDay("")}>
          Today
        </Button>
        <Button variant="default" size="compact-sm" aria-label="After" onClick={() => move(1)}>
          ›
        </Button>
        <span aria-live="polite">{view === "month" ? monthName.format(Date.parse(day)) : `${days[0]} to ${days[6]}`}</span>
        {isPending && <Loader size="xs" aria-label="Loading" />}
        <span className="panel-tools">
          {projects.length > 1 && (
            <NativeSelect
              aria-label="Project"
              size="xs"
              data={[{ value: "", label: "all projects" }, ...projects]}
              value={project}
              onChange={(e) => setProject(e.currentTarget.value)}
            />
          )}
          <NativeSelect
            aria-label="Clocks of"
            size="xs"
            data={[...new Set([own, "UTC", ...zones])].map((z) => ({ value: z, label: z === own ? `${z} (here)` : z }))}
            value={zone}
            onChange={(e) => setZone(e.currentTarget.value === own ? "" : e.currentTarget.value)}
          />
          <SegmentedControl size="xs" aria-label="Span" value={view} onChange={setView} data={[{ value: "month", label: "Month" }, { value: "week", label: "Week" }]} />
        </span>
      </h2>
      <Trouble error={error} inside />
      {Object.entries(data?.faults ?? {}).map(([id, why]) => (
        <Trouble key={id} error={`${id} cannot fire: ${why}`} inside />
      ))}
      <div className="scroll-x">{view === "month" ? <Month {...common} month={day.slice(0, 7)} onDay={open} /> : <Week {...common} />}</div>
      <p className="cal-legend muted">
        {data && shown.length === 0 && <b>Nothing is due in this time. </b>}
        {[FiringState.PLANNED, FiringState.DONE, FiringState.FAILED, FiringState.LEFT_OUT].map((s) => (
          <span key={s} className="cal-key" data-state={words[s]}>
            {words[s]}
          </span>
        ))}
        <span className="cal-key" data-shifted>
          moved by clocks that are set
        </span>
      </p>
    </section>
  );
}

interface GridProps {
  days: Day[];
  today: Day;
  cells: Map<string, Entry[]>;
  changed: (day: Day) => ClockChange[];
  chosen: string;
  onChoose: (id: string) => void;
}

function Month({ days, today, cells, changed, chosen, onChoose, month, onDay }: GridProps & { month: string; onDay: (day: Day) => void }) {
  const weeks = Array.from({ length: days.length / 7 }, (_, i) => days.slice(7 * i, 7 * i + 7));
  return (
    <table className="cal cal-month" aria-label="Month">
      <thead>
        <tr>
          {weekdays.map((d) => (
            <th key={d} scope="col">
              {d}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {weeks.map((week) => (
          <tr key={week[0]}>
            {week.map((d) => {
              const list = cells.get(d) ?? [];
              return (
                <td key={d} data-today={d === today || undefined} data-other={d.slice(0, 7) !== month || undefined}>
                  <button type="button" className="cal-day" aria-label={`Week of ${d}`} onClick={() => onDay(d)}>
                    {Number(d.slice(8))}
                  </button>
                  <Changes list={changed(d)} />
                  {list.slice(0, named).map((e) => (
                    <Mark key={e.first.schedule} entry={e} chosen={chosen} onChoose={onChoose} />
                  ))}
                  {list.length > named && (
                    <button type="button" className="cal-more" onClick={() => onDay(d)}>
                      {list.length - named} more
                    </button>
                  )}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Week({ days, today, cells, changed, chosen, onChoose }: GridProps) {
  return (
    <table className="cal cal-week" aria-label="Week">
      <thead>
        <tr>
          <td />
          {days.map((d, i) => (
            <th key={d} scope="col" data-today={d === today || undefined}>
              {weekdays[i]} {Number(d.slice(8))} <Changes list={changed(d)} />
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {hours.map((h) => (
          <tr key={h}>
            <th scope="row">{String(h).padStart(2, "0")}</th>
            {days.map((d) => (
              <td key={d} data-today={d === today || undefined}>
                {(cells.get(`${d} ${h}`) ?? []).map((e) => (
                  <Mark key={e.first.schedule} entry={e} chosen={chosen} onChoose={onChoose} />
                ))}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Clocks that are set on a day. */
function Changes({ list }: { list: ClockChange[] }) {
  if (list.length === 0) return null;
  const by = [...new Set(list.map((c) => Number(c.by?.seconds ?? 0) / 3600))];
  const text = list.map((c) => `${c.zone}: ${clockOf(c.zone)((millis(c.time) ?? 0) - 1).time} is the last minute before`).join("; ");
  return (
    <span className="cal-change" title={text}>
      clocks {by.map((h) => `${h > 0 ? "+" : "−"}${Math.abs(h)} h`).join(", ")}
    </span>
  );
}

function Mark({ entry: e, chosen, onChoose }: { entry: Entry; chosen: string; onChoose: (id: string) => void }) {
  const name = e.first.title || split(e.first.schedule).name;
  const times = e.count > 1 || e.more ? ` ×${e.count}${e.more ? "+" : ""}` : "";
  const about = [e.first.schedule, words[e.state], ...e.notes].join(", ");
  return (
    <button
      type="button"
      className="cal-mark"
      data-state={words[e.state]}
      data-shifted={e.shifted || undefined}
      aria-current={e.first.schedule === chosen ? "true" : undefined}
      aria-label={`${e.time} ${name}${times}, ${about}`}
      title={about}
      onClick={() => onChoose(e.first.schedule)}
    >
      <b>{e.time}</b> {name}
      {times}
    </button>
  );
}
