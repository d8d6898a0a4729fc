import { Button, SegmentedControl } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState, type ReactNode } from "react";

import { automation } from "../../api/client";
import { useWord } from "../../frame/address";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Schedule } from "../../gen/pollux/v1/automation_pb";
import { counted } from "../../model/list";
import { full, split } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { Calendar } from "./Calendar";
import { Facts } from "./Facts";
import { Item } from "./Item";
import { ReportForm } from "./ReportForm";
import { Runs } from "./Runs";
import { readSchedule, write } from "./text";
import { TextEditor } from "./TextEditor";
import { automationTabs, useSchedules } from "./useAutomation";

/** How many of the next firings are shown. */
const ahead = 10;

const blank = `id: default/lights-out
timing:
  calendar: {times: ["22:30"], weekdays: [mon, tue, wed, thu, fri]}
  zone: Europe/Berlin
actions:
  - set: {to: {twin: lamp1}, property: power, value: false}
`;

async function put(text: string, revision: bigint): Promise<string> {
  const schedule = readSchedule(text, revision);
  schedule.id = full(schedule.id);
  return (await automation.putSchedule({ schedule })).schedule?.id ?? schedule.id;
}

/** Schedules: when each is due next, and what it did. */
export function SchedulesRoom() {
  const [id, choose] = useWord("schedule");
  const [view, setView] = useWord("view");
  const { data, error } = useSchedules();
  const list = data ?? [];
  const chosen = list.find((s) => s.schedule.id === id)?.schedule;
  const calendar = view === "month" || view === "week";
  return (
    <>
      <RoomHead title="Schedules" tabs={automationTabs} note={data && counted(list, "schedule")} error={error}>
        <SegmentedControl
          size="xs"
          aria-label="View"
          value={calendar ? "calendar" : "list"}
          onChange={(v) => setView(v === "calendar" ? "month" : "")}
          data={[
            { value: "list", label: "List" },
            { value: "calendar", label: "Calendar" },
          ]}
        />
        <Button variant="default" onClick={() => choose("report")}>
          New report
        </Button>
        <Button onClick={() => choose("new")}>New schedule</Button>
      </RoomHead>
      {calendar ? (
        <>
          <Calendar
            view={view}
            setView={setView}
            zones={[...new Set(list.map((x) => x.schedule.timing?.zone || "UTC"))].sort()}
            projects={[...new Set(list.map((x) => split(x.schedule.id).project))].sort()}
            chosen={id}
            onChoose={choose}
          />
          {id && (
            <Seen key={id}>
              <Chosen id={id} chosen={chosen} known={data !== undefined} onChoose={choose} />
            </Seen>
          )}
        </>
      ) : (
        <div className="split">
          <div className="split-list">
            <Records title="Schedules" list={data} error={error} words={({ schedule: s }) => `${s.id} ${s.title}`}>
              {({ schedule: s, next }) => (
                <Item key={s.id} id={s.id} title={s.title} note={s.paused ? undefined : soon(millis(next))} pill={s.paused ? "paused" : undefined} chosen={s.id === id} onChoose={() => choose(s.id)} />
              )}
            </Records>
          </div>
          <div className="split-detail">
            <Chosen id={id} chosen={chosen} known={data !== undefined} onChoose={choose} />
          </div>
        </div>
      )}
    </>
  );
}

/** What is chosen below a calendar comes into sight. */
function Seen({ children }: { children: ReactNode }) {
  const at = useRef<HTMLDivElement>(null);
  useEffect(() => at.current?.scrollIntoView({ block: "nearest" }), []);
  return <div ref={at}>{children}</div>;
}

interface ChosenProps {
  id: string;
  chosen: Schedule | undefined;
  /** The schedules are known. */
  known: boolean;
  onChoose: (id: string) => void;
}

/** The schedule that is chosen, or a form for a new one. */
function Chosen({ id, chosen, known, onChoose }: ChosenProps) {
  if (id === "new") {
    return (
      <section className="panel" aria-label="New schedule">
        <h2>New schedule</h2>
        <TextEditor kind="schedule" id="" text={blank} save={(text) => put(text, 0n)} remove={() => Promise.resolve()} onClose={onChoose} />
      </section>
    );
  }
  if (id === "report") {
    return (
      <section className="panel" aria-label="New report">
        <h2>New report</h2>
        <ReportForm onClose={onChoose} />
      </section>
    );
  }
  if (chosen) return <ScheduleDetail key={chosen.id} schedule={chosen} onChoose={onChoose} />;
  return (
    <div className="empty">
      {id && known ? <b>There is no schedule {id}.</b> : <b>A schedule does something at times.</b>}
      <span>Once, every so often, by cron, by the calendar, or by the sun.</span>
      <Try lines={[{ what: "Each evening", line: "pollux schedule put lights-out --daily 22:30 --zone Europe/Berlin --set lamp1.power=off" }]} />
    </div>
  );
}

function ScheduleDetail({ schedule, onChoose }: { schedule: Schedule; onChoose: (id: string) => void }) {
  const client = useQueryClient();
  const [editing, setEditing] = useState<Schedule>();
  const { data, error } = useQuery({ queryKey: ["schedule", "one", schedule.id], queryFn: ({ signal }) => automation.getSchedule({ id: schedule.id, next: ahead }, { signal }), refetchInterval: 2000 });
  const pause = useMutation({
    mutationFn: () => automation.putSchedule({ schedule: { ...schedule, paused: !schedule.paused } }),
    onSettled: () => client.invalidateQueries({ queryKey: ["schedule"] }),
  });
  const s = data?.state;
  return (
    <section className="panel" aria-label={`Schedule ${schedule.id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {schedule.title || split(schedule.id).name} <code>{schedule.id}</code>
          </h2>
          <Facts
            list={[
              ["State", schedule.paused ? "paused" : "on"],
              ["Fired", s ? count(s.firings) : "…"],
              ["Last", s ? dateTime(millis(s.last)) : "…"],
              ["Missed", s ? count(s.missed) : "…"],
            ]}
          />
        </div>
        <span className="head-actions">
          <Button variant="default" loading={pause.isPending} onClick={() => pause.mutate()}>
            {schedule.paused ? "Enable" : "Disable"}
          </Button>
          <Button variant="default" onClick={() => setEditing(editing ? undefined : schedule)}>
            Edit
          </Button>
        </span>
      </div>
      <Trouble error={error ?? pause.error} inside />
      <Trouble error={s?.fault} inside />
      {editing && (
        <TextEditor
          kind="schedule"
          id={schedule.id}
          text={write(editing)}
          save={(text) => put(text, editing.revision)}
          remove={() => automation.deleteSchedule({ id: schedule.id })}
          onClose={(id) => {
            setEditing(undefined);
            onChoose(id);
          }}
        />
      )}
      {!editing && <pre className="automation-text" aria-label="Text">{write(schedule)}</pre>}
      {data && (
        <>
          <h3 className="automation-head">Next</h3>
          {data.next.length === 0 && <p className="muted pad">It is not due any more.</p>}
          <ol className="automation-next" aria-label="Next">
            {data.next.map((t, i) => (
              <li key={i}>{dateTime(millis(t))}</li>
            ))}
          </ol>
          <h3 className="automation-head">What it did</h3>
          <Runs runs={data.runs} />
        </>
      )}
    </section>
  );
}

/** A list leaves the time out where there is none: it is the zero of time on the wire. */
function soon(ms: number | undefined): string | undefined {
  return ms !== undefined && ms > 0 ? dateTime(ms) : undefined;
}
