import "./overview.css";

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "wouter";

import { automation, cluster, history } from "../../api/client";
import { Spark } from "../../chart/Spark";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { AlarmSeverity } from "../../gen/pollux/v1/automation_pb";
import { useNow } from "../../live/now";
import { ago, count, millis, number } from "../../model/value";
import { useAlarms, useRules, useSchedules } from "../automation/useAutomation";
import { JournalTable } from "../history/JournalTable";
import { rateNow, rates, sum } from "../ingest/rates";
import { useIngest } from "../ingest/useIngest";
import { needs } from "./attention";
import { Figures } from "./Figures";

/** How much is listed of each; the rooms have it all. */
const few = 8;

/** The first room: how everything stands, what somebody should look at, what happened and what comes next. */
export function OverviewRoom() {
  const { data: status, error } = useQuery({ queryKey: ["status"], queryFn: ({ signal }) => cluster.getStatus({}, { signal }), refetchInterval: 2000 });
  const { data: messages, looks } = useIngest();
  const { data: alarms } = useAlarms(false);
  const { data: rules } = useRules();
  const { data: schedules } = useSchedules();
  const { data: counted } = useQuery({ queryKey: ["alarm", "count"], queryFn: ({ signal }) => automation.countAlarms({}, { signal }), refetchInterval: 10_000 });
  const s = sum(messages?.counts ?? []);
  const rate = rateNow(looks);
  const paused = (rules ?? []).filter(({ rule }) => rule.paused).length;
  const stopped = (rules ?? []).filter(({ state }) => state?.stopped).length;
  return (
    <>
      <RoomHead title="Overview" error={error} />
      <div className="tiles">
        <Tile name="Twins" path="/twins" figure={status && count(status.twins)} bad={!!status && status.faultyTwins > 0n}>
          {status && `${count(status.connectedTwins)} connected, ${count(status.faultyTwins)} with a fault`}
        </Tile>
        <Tile name="Alarms" path="/alarms" figure={counted && count(counted.active)} bad={(alarms ?? []).some((a) => a.active && a.severity >= AlarmSeverity.ERROR)}>
          {counted && (counted.active ? worst(counted.bySeverity) : counted.unacknowledged ? `${count(counted.unacknowledged)} not acknowledged` : "nothing is wrong")}
        </Tile>
        <Tile name="Messages per second" path="/ingest" figure={rate === undefined ? "…" : number(Math.round(rate * 10) / 10)}>
          <Spark points={rates(looks).map((r) => r.rate)} label="Messages per second" />
          {`${count(s.stored)} stored, ${count(s.refused)} refused`}
        </Tile>
        <Tile name="Rules" path="/rules" figure={rules && count(rules.length)}>
          {rules && schedules && `${stopped ? `${stopped} stopped, ` : ""}${paused ? `${paused} paused, ` : ""}${count(schedules.length)} ${schedules.length === 1 ? "schedule" : "schedules"}`}
        </Tile>
        <Tile name="Nodes" path="/cluster" figure={status && (status.nodes > 1 ? `${status.nodesAlive} of ${status.nodes}` : "1")} bad={!!status && status.nodesAlive < status.nodes}>
          {status && (status.failuresTolerated ? `${status.failuresTolerated} may fail with nothing lost` : status.nodes > 1 ? "none may fail" : "a second and a third join with one address each")}
        </Tile>
      </div>
      {status?.twins === 0n && <Begin />}
      <div className="overview">
        <section className="panel" aria-label="Needs attention">
          <h2>Needs attention</h2>
          <ul className="list">
            {(alarms ?? []).slice(0, few).map((a) => (
              <Need key={a.id} path={`/alarms?alarm=${encodeURIComponent(a.id)}`} grave={a.active && a.severity >= AlarmSeverity.ERROR} text={a.text}>
                {a.active ? "alarm" : "over, not acknowledged"}
              </Need>
            ))}
            {status && needs(status, messages?.inboxEntries ?? 0n).map((n) => <Need key={n.text} {...n} />)}
          </ul>
          {alarms && alarms.length > few && (
            <p className="muted pad">
              <Link href="/alarms">{count(alarms.length - few)} more alarms</Link>
            </p>
          )}
          {status && alarms && messages && alarms.length === 0 && needs(status, messages.inboxEntries).length === 0 && <p className="muted pad">Nothing. Every node answers, no twin has a fault.</p>}
        </section>
        <section className="panel" aria-label="Due next">
          <h2>Due next</h2>
          <Due list={schedules ?? []} />
        </section>
        <Figures />
        <Lately />
      </div>
    </>
  );
}

/** What a node without twins is for, and the ways to the first one. */
function Begin() {
  return (
    <section className="panel" aria-label="Begin">
      <h2>Begin</h2>
      <div className="begin pad">
        <span>A twin is one device with a driver and a state of its own.</span>
        <Link href="/drivers">Add a driver</Link>
        <Link href="/twins">Create a twin</Link>
        <Link href="/import">Import many from a list</Link>
        <Link href="/ingest">Send a first message</Link>
      </div>
      <div className="pad">
        <Try lines={[{ what: "See a whole simulated building first", line: "pollux serve --demo" }]} />
      </div>
    </section>
  );
}

/** The gravest alarms and how many they are. */
function worst(bySeverity: Record<string, number>): string {
  const named = ["critical", "error", "warning", "info"].filter((k) => bySeverity[k]);
  return named.map((k) => `${bySeverity[k]} ${k}`).join(", ");
}

function Tile({ name, path, figure, bad, children }: { name: string; path: string; figure?: string; bad?: boolean; children?: ReactNode }) {
  return (
    <Link href={path} className="panel tile" aria-label={name}>
      <span className="muted">{name}</span>
      <b data-tone={bad ? "bad" : undefined}>{figure ?? "…"}</b>
      <small className="muted">{children}</small>
    </Link>
  );
}

function Need({ path, text, grave, children }: { path: string; text: string; grave: boolean; children?: ReactNode }) {
  return (
    <li>
      <Link href={path} className="need" data-grave={grave}>
        <span>{text}</span>
        {children && <small className="muted">{children}</small>}
      </Link>
    </li>
  );
}

/** The schedules that fire next. */
function Due({ list }: { list: NonNullable<ReturnType<typeof useSchedules>["data"]> }) {
  const now = useNow();
  const due = list
    .flatMap(({ schedule, next }) => (millis(next) === undefined ? [] : [{ id: schedule.id, title: schedule.title || schedule.id, at: millis(next) as number }]))
    .sort((a, b) => a.at - b.at)
    .slice(0, few);
  if (due.length === 0) return <p className="muted pad">No schedule waits.</p>;
  return (
    <ul className="list">
      {due.map((d) => (
        <Need key={d.id} path={`/schedules?schedule=${encodeURIComponent(d.id)}`} grave={false} text={d.title}>
          {inTime(d.at - now)}
        </Need>
      ))}
    </ul>
  );
}

function inTime(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `in ${s} s`;
  if (s < 90 * 60) return `in ${Math.round(s / 60)} min`;
  if (s < 36 * 3600) return `in ${Math.round(s / 3600)} h`;
  return `in ${Math.round(s / 86_400)} days`;
}

/** What is told of under Lately: not the texts that devices report, which come all the time. */
const lately = ["event", "alarm", "command", "desired", "quality", "quota"];

/** What the journal has of all projects, the newest first: events, alarms, what was asked of twins and what came of it. */
function Lately() {
  const now = useNow();
  const { data, error } = useQuery({
    queryKey: ["journal", "lately"],
    queryFn: ({ signal }) => history.listJournal({ kinds: lately, pageSize: 12 }, { signal }),
    refetchInterval: 3000,
    placeholderData: keepPreviousData,
  });
  const entries = data?.entries ?? [];
  return (
    <section className="panel overview-wide" aria-label="Lately">
      <h2>Lately</h2>
      <Trouble error={error} inside />
      {data && entries.length === 0 && <p className="muted pad">Nothing happened yet: no event, no alarm, no command.</p>}
      {entries.length > 0 && (
        <JournalTable entries={entries} label="Lately" time={(ms) => ago(ms, now)} />
      )}
    </section>
  );
}
