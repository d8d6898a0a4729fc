import { Button } from "@mantine/core";
import { useState } from "react";
import { Link } from "wouter";

import { topics } from "../../api/client";
import type { Route } from "../../gen/pollux/v1/topic_pb";
import { split } from "../../model/id";
import { count, number } from "../../model/value";
import { DeadLetters } from "./DeadLetters";
import type { Rate } from "./RoutesRoom";
import { topicPath } from "./useTopics";

interface Props {
  route: Route;
  rate: Rate | undefined;
  chosen: boolean;
  onChoose: () => void;
}

/** One route, drawn: source → condition → topics, with what passed each step. */
export function RouteLine({ route: r, rate, chosen, onChoose }: Props) {
  const { name } = split(r.id);
  const [open, setOpen] = useState(false);
  const c = r.counts;
  const dead = c?.dead ?? 0n;
  return (
    <li className="route" aria-label={`Route ${name}`} data-chosen={chosen || undefined}>
      <div className="route-name">
        <b>{name}</b>
        <Button size="compact-xs" variant="default" aria-label={`Edit ${name}`} onClick={onChoose}>
          Edit
        </Button>
      </div>
      <div className="route-steps" data-run={r.run ? true : undefined}>
        <div className="step" data-kind="source">
          <small>twins</small>
          <span>{sources(r)}</span>
          <small>{what(r)}</small>
        </div>
        <Arrow label="seen" n={c?.seen ?? 0n} rate={rate?.seen} />
        <div className="step" data-kind="when">
          <small>when</small>
          {r.when ? <code>{r.when}</code> : <span>always</span>}
          {c && c.failed > 0n && (
            <small className="bad" title="The condition could not be told of these, such as a text where it wants a number. They are dead letters of the route.">
              {count(c.failed)} could not be told
            </small>
          )}
        </div>
        <Arrow label="matched" n={c?.matched ?? 0n} rate={rate?.matched} />
        {r.run && (
          <>
            <div className="step" data-kind="run">
              <small>run</small>
              <Link href={`/logic?logic=${encodeURIComponent(r.run)}`}>{split(r.run).name}</Link>
            </div>
            <Arrow />
          </>
        )}
        <div className="step" data-kind="target">
          <small>{r.topics.length === 1 ? "topic" : "topics"}</small>
          {r.topics.map((t) => (
            <Link key={t} href={topicPath(t)}>
              {split(t).name}
            </Link>
          ))}
        </div>
      </div>
      <p className="route-after muted">
        {r.terminate ? "What matches stops here." : "What matches goes on to the next route, too."}
        {(dead > 0n || open) && (
          <Button size="compact-xs" variant="default" ml="sm" aria-expanded={open} onClick={() => setOpen(!open)}>
            {dead === 1n ? "1 dead letter" : `${count(dead)} dead letters`}
          </Button>
        )}
      </p>
      {open && (
        <DeadLetters
          list={c?.deadLetters ?? ""}
          count={dead}
          none="No dead letters: what the condition cannot be told of, or no topic takes, lands here with the reason."
          again={async (limit) => {
            const done = await topics.replayRoute({ id: r.id, limit });
            return `${count(done.published)} published, ${count(done.passedOver)} passed over, ${count(done.failed)} failed again`;
          }}
        />
      )}
    </li>
  );
}

/** From a step to the next; with what went along it where that is counted. */
function Arrow({ label, n = 0n, rate }: { label?: string; n?: bigint; rate?: number }) {
  return (
    <div className="arrow" data-live={rate ? true : undefined}>
      {label && <b aria-label={`${label} ${n}`}>{count(n)}</b>}
      <svg viewBox="0 0 60 10" preserveAspectRatio="none" aria-hidden="true">
        <path d="M0 5h54" vectorEffect="non-scaling-stroke" />
        <path d="m50 1 5 4-5 4" vectorEffect="non-scaling-stroke" />
      </svg>
      <small>
        {label}
        {rate ? `, ${number(Math.round(rate * 10) / 10)}/s` : ""}
      </small>
    </div>
  );
}

function sources(r: Route): string {
  const of = r.twins.map((t) => split(t).name);
  if (of.length > 4) of.splice(3, of.length, `${r.twins.length - 3} more`);
  if (r.zone) of.push(`in ${split(r.zone).name}`);
  if (r.driver) of.push(`driver ${r.driver}`);
  if (r.model) of.push(`model ${r.model}`);
  for (const [k, v] of Object.entries(r.labels)) of.push(`${k}=${v}`);
  return of.length ? of.join(", ") : "all";
}

function what(r: Route): string {
  if (r.properties.length + r.events.length === 0) return "every value and event";
  return [...r.properties, ...r.events.map((e) => `event ${e}`)].join(", ");
}
