import "./topics.css";

import { Button, Loader } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { topics } from "../../api/client";
import { useWord } from "../../frame/address";
import { Held } from "../../frame/Held";
import { RoomHead } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Route } from "../../gen/pollux/v1/topic_pb";
import { useChanges } from "../../live/changes";
import { all } from "../../model/list";
import { split } from "../../model/id";
import { RouteEditor } from "./RouteEditor";
import { RouteLine } from "./RouteLine";
import { topicTabs } from "./useTopics";

/** Where what twins say goes: each route drawn from its source over its condition to its topics, with what passes. */
export function RoutesRoom() {
  useChanges("route", "routes");
  const [chosenId, choose] = useWord("route");
  const { data, isPending, error, dataUpdatedAt } = useQuery({
    queryKey: ["routes"],
    queryFn: ({ signal }) =>
      all<Route>(async (pageToken) => {
        const page = await topics.listRoutes({ pageSize: 1000, pageToken }, { signal });
        return { items: page.routes, next: page.nextPageToken };
      }),
    refetchInterval: 2000,
  });
  const rates = useRates(data, dataUpdatedAt);
  const list = data ?? [];
  const projects = [...new Set(list.map((r) => split(r.id).project))];
  const chosen = list.find((r) => r.id === chosenId);
  const editing = chosen ?? (chosenId === "new" ? null : undefined);
  const silent = Math.max(0, ...list.map((r) => r.counts?.silent ?? 0));
  return (
    <>
      <RoomHead title="Routes" tabs={topicTabs} note={list.length > 0 && "tried from top to bottom; counts since the nodes started"} error={error}>
        <Button onClick={() => choose("new")}>New route</Button>
      </RoomHead>
      {silent > 0 && <p className="muted">{silent === 1 ? "One node does" : `${silent} nodes do`} not answer: the counts are of the others.</p>}
      {editing && (
        <Held key={editing.id} record={editing} revision={editing.revision}>
          {(route) => <RouteEditor route={route} onClose={() => choose("")} />}
        </Held>
      )}
      {editing === null && <RouteEditor route={null} onClose={() => choose("")} />}
      {isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      {!isPending && list.length === 0 && editing === undefined && (
        <div className="empty">
          <b>No route yet.</b>
          <span>A route brings what twins say, each new value and each event, to a topic, where its condition holds.</span>
          <Try
            lines={[
              { what: "Every change of every twin", line: "pollux topic create changes && pollux topic route put all --to changes" },
              { what: "Only what is too hot, and nothing else with it", line: "pollux topic create alarms && pollux topic route put 10-hot --to alarms --property temperature --when 'value > 30.0' --terminate" },
            ]}
          />
        </div>
      )}
      {projects.map((project) => (
        <section key={project} className="panel" aria-label={`Routes of ${project}`}>
          <h2>{project}</h2>
          <ol className="routes" aria-label={`Routes of ${project}`}>
            {list
              .filter((r) => split(r.id).project === project)
              .map((r) => (
                <RouteLine key={r.id} route={r} rate={rates.get(r.id)} chosen={r.id === chosenId} onChoose={() => choose(r.id)} />
              ))}
          </ol>
        </section>
      ))}
    </>
  );
}

/** What passes per second, between the last two looks. */
export interface Rate {
  seen: number;
  matched: number;
}

function useRates(list: Route[] | undefined, time: number): Map<string, Rate> {
  const [kept, setKept] = useState<{ time: number; list: Route[]; rates: Map<string, Rate> }>({ time: 0, list: [], rates: new Map() });
  if (list && time !== kept.time) {
    const seconds = (time - kept.time) / 1000;
    const before = new Map(kept.list.map((r) => [r.id, r.counts]));
    const rates = new Map<string, Rate>();
    for (const r of list) {
      const b = before.get(r.id);
      const per = (now = 0n, then = 0n) => (b && seconds > 0 ? Math.max(0, Number(now - then)) / seconds : 0);
      rates.set(r.id, { seen: per(r.counts?.seen, b?.seen), matched: per(r.counts?.matched, b?.matched) });
    }
    setKept({ time, list, rates });
  }
  return kept.rates;
}
