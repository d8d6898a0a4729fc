import "../automation/automation.css";

import { Button, SegmentedControl } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { simulations } from "../../api/client";
import { useWord } from "../../frame/address";
import { Ask } from "../../frame/Ask";
import { ingestTabs } from "../../frame/ingestTabs";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Simulation } from "../../gen/pollux/v1/simulation_pb";
import { useChanges } from "../../live/changes";
import { all, counted } from "../../model/list";
import { split } from "../../model/id";
import { count, dateTime, millis, span } from "../../model/value";
import { Facts } from "../automation/Facts";
import { Item } from "../automation/Item";
import { SimulationForm } from "./SimulationForm";

/** Simulations: scenarios that the cluster plays to twins, as their devices would. */
export function SimulatorRoom() {
  useChanges("simulation", "simulations");
  const client = useQueryClient();
  const [id, choose] = useWord("simulation");
  const { data, error } = useQuery({
    queryKey: ["simulations"],
    queryFn: ({ signal }) =>
      all<Simulation>(async (pageToken) => {
        const page = await simulations.listSimulations({ pageSize: 1000, pageToken }, { signal });
        return { items: page.simulations, next: page.nextPageToken };
      }),
    refetchInterval: 1000,
  });
  const list = data ?? [];
  const chosen = list.find((m) => m.id === id);
  const again = () => client.invalidateQueries({ queryKey: ["simulations"] });
  const done = async (name: string) => {
    await again();
    choose(name);
  };
  return (
    <>
      <RoomHead title="Simulator" tabs={ingestTabs()} note={data && counted(list, "simulation")} error={error}>
        <Button onClick={() => choose("new")}>New simulation</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <Records title="Simulations" list={data} error={error} words={(m) => `${m.id} ${m.title}`}>
            {(m) => (
              <Item key={m.id} id={m.id} title={m.title} note={`${count(m.state?.stored ?? 0n)} stored`} pill={status(m)} bad={status(m) === "trouble"} chosen={m.id === id} onChoose={() => choose(m.id)} />
            )}
          </Records>
        </div>
        <div className="split-detail">
          {id === "new" ? (
            <section className="panel" aria-label="New simulation">
              <h2>New simulation</h2>
              <SimulationForm onClose={(name) => void done(name)} />
            </section>
          ) : chosen ? (
            <Detail key={chosen.id} m={chosen} again={again} onGone={() => done("")} />
          ) : (
            <div className="empty">
              {id && data ? <b>There is no simulation {id}.</b> : <b>A simulation feeds twins as their devices would.</b>}
              <span>From key frames with noise and faults, from a CSV file, or from what a twin once reported; for one twin or thousands, at any speed.</span>
              <Try lines={[{ what: "Play a scenario to twins that are made for it", line: "pollux sim create office office.yaml --model room" }]} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function status(m: Simulation): string {
  if (m.paused) return "paused";
  if (m.state?.ended) return "over";
  return m.state?.error ? "trouble" : "running";
}

const speeds = ["1", "10", "60", "600", "max"];

function Detail({ m, again, onGone }: { m: Simulation; again: () => Promise<unknown>; onGone: () => unknown }) {
  const [asking, setAsking] = useState(false);
  const [editing, setEditing] = useState<Simulation>();
  const { project } = split(m.id);
  const steer = useMutation({
    mutationFn: (what: { paused?: boolean; speed?: number; reset?: boolean }) => simulations.steerSimulations({ project, ids: [m.id], ...what }),
    onSettled: again,
  });
  const whole = useMutation({ mutationFn: async () => setEditing((await simulations.getSimulation({ id: m.id })).simulation) });
  const s = m.state;
  const speed = m.speed === undefined ? "1" : m.speed === 0 ? "max" : String(m.speed);
  return (
    <section className="panel" aria-label={`Simulation ${m.id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {m.title || split(m.id).name} <code>{m.id}</code>
          </h2>
          <Facts
            list={[
              ["State", status(m)],
              ["At", `${length(s?.at?.seconds)} of ${length(s?.length?.seconds)}`],
              ["Twins", count(s?.twins ?? 0)],
              ["Steps", count(s?.steps ?? 0n)],
              ["Sent", count(s?.sent ?? 0n)],
              ["Stored", count(s?.stored ?? 0n)],
              ["Refused", count(s?.refused ?? 0n)],
              ["Left out", count(s?.skipped ?? 0n)],
              ["Began", dateTime(millis(m.beginTime))],
              ["Node", s?.node || "–"],
            ]}
          />
        </div>
        <span className="head-actions">
          <Button loading={steer.isPending} onClick={() => steer.mutate({ paused: !m.paused })}>
            {m.paused ? "Start" : "Pause"}
          </Button>
          <Button variant="default" onClick={() => steer.mutate({ reset: true })}>
            Reset
          </Button>
          <Button variant="default" loading={whole.isPending} onClick={() => (editing ? setEditing(undefined) : whole.mutate())}>
            Edit
          </Button>
          <Button variant="default" onClick={() => setAsking(true)}>
            Delete
          </Button>
        </span>
      </div>
      <div className="pad one-line">
        <span className="muted">Times as fast as the clock</span>
        <SegmentedControl
          aria-label="Speed"
          size="xs"
          data={speeds.includes(speed) ? speeds : [...speeds, speed]}
          value={speed}
          onChange={(v) => steer.mutate({ speed: v === "max" ? 0 : Number(v) })}
        />
      </div>
      <Trouble error={steer.error ?? whole.error} inside />
      <Trouble error={s?.error} inside />
      {editing ? (
        <SimulationForm
          key={String(editing.revision)}
          old={editing}
          onClose={() => {
            setEditing(undefined);
            void again();
          }}
        />
      ) : (
        <pre className="automation-text" aria-label="Scenario">
          {m.scenario}
        </pre>
      )}
      <Ask opened={asking} onClose={() => setAsking(false)} title="Delete simulation" verb="Delete simulation" run={() => simulations.deleteSimulation({ id: m.id })} onDone={onGone}>
        <b>{m.id}</b> ends. Its twins stay, with what they have.
      </Ask>
    </section>
  );
}

function length(seconds: bigint | undefined): string {
  return span(Number(seconds ?? 0n) * 1000);
}
