import { Alert, Button, NumberInput, Progress, Select, TagsInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { drivers } from "../../api/client";
import { explain } from "../../api/errors";
import { RolloutPhase, type Rollout as Record, type RolloutTally } from "../../gen/pollux/v1/driver_pb";
import type { DriverGroup } from "../../model/versions";
import { count, dateTime, millis } from "../../model/value";

const PHASES: { [phase in RolloutPhase]: string } = {
  [RolloutPhase.UNSPECIFIED]: "unknown",
  [RolloutPhase.RUNNING]: "going on",
  [RolloutPhase.PAUSED]: "paused",
  [RolloutPhase.DONE]: "done",
  [RolloutPhase.RETURNED]: "returned",
};

/** How a version comes to the twins: the last rollout, and the next. */
export function Rollout({ driver }: { driver: DriverGroup }) {
  const queries = useQueryClient();
  const { data, error } = useQuery({
    queryKey: ["rollouts", driver.name],
    queryFn: ({ signal }) => drivers.listRollouts({ driver: driver.name }, { signal }),
    refetchInterval: 2_000,
  });
  const changed = () => Promise.all([queries.invalidateQueries({ queryKey: ["rollouts"] }), queries.invalidateQueries({ queryKey: ["drivers"] })]);
  const halt = useMutation({ mutationFn: () => drivers.haltRollout({ driver: driver.name }), onSuccess: changed });
  const back = useMutation({ mutationFn: () => drivers.rollback({ driver: driver.name }), onSuccess: changed });
  const last = data?.rollouts.toSorted((a, b) => Number(b.number - a.number))[0];
  const on = last?.phase === RolloutPhase.RUNNING || last?.phase === RolloutPhase.PAUSED;
  const trouble = error ?? halt.error ?? back.error;
  return (
    <div className="rollout stack pad">
      {trouble && (
        <Alert color="red" variant="light" role="alert">
          {explain(trouble)}
        </Alert>
      )}
      {last ? <Told rollout={last} /> : <p className="muted">It was never rolled out in steps.</p>}
      <div className="actions">
        {last?.phase === RolloutPhase.RUNNING && (
          <Button variant="default" loading={halt.isPending} onClick={() => halt.mutate()}>
            Halt
          </Button>
        )}
        <Button variant="default" color="red" loading={back.isPending} onClick={() => back.mutate()}>
          Roll back
        </Button>
      </div>
      {!on && driver.versions.length > 1 && <Begin driver={driver} onDone={changed} />}
    </div>
  );
}

function Told({ rollout: r }: { rollout: Record }) {
  const share = r.twins > 0n ? Number((r.moved * 100n) / r.twins) : 0;
  return (
    <section aria-label="Rollout" className="stack">
      <p>
        <b>
          {r.fromVersion} → {r.version}
        </b>{" "}
        <span className="pill" role="status">
          {PHASES[r.phase]}
        </span>{" "}
        <span className="muted">
          {dateTime(millis(r.createTime))}, by {r.by}
        </span>
      </p>
      {r.reason && <p className={r.phase === RolloutPhase.RETURNED ? "bad" : "muted"}>{r.reason}</p>}
      <Progress value={share} aria-label="Twins that have the new version" />
      <p className="muted">
        {count(r.moved)} of {count(r.twins)} twins have it
        {r.steps.length > 0 && `; steps ${r.steps.map((s) => `${s} %`).join(", ")}, now ${r.share} %`}
      </p>
      <table className="tallies">
        <thead>
          <tr>
            <th />
            <th>Calls</th>
            <th>Crashes</th>
            <th>Commands</th>
            <th>Failed</th>
            <th>The last one</th>
          </tr>
        </thead>
        <tbody>
          <Row name={r.version} of={r.now} />
          <Row name={r.fromVersion} of={r.before} />
        </tbody>
      </table>
    </section>
  );
}

function Row({ name, of }: { name: string; of: RolloutTally | undefined }) {
  return (
    <tr>
      <th>{name}</th>
      <td>{count(of?.calls ?? 0n)}</td>
      <td>{count(of?.traps ?? 0n)}</td>
      <td>{count(of?.commands ?? 0n)}</td>
      <td>{count(of?.failures ?? 0n)}</td>
      <td className="clip" title={of?.last}>
        {of?.last}
      </td>
    </tr>
  );
}

function Begin({ driver, onDone }: { driver: DriverGroup; onDone: () => Promise<unknown> }) {
  const current = driver.versions.find((v) => v.current);
  const others = driver.versions.filter((v) => v !== current);
  const [version, setVersion] = useState(others[0]?.version ?? "");
  const [steps, setSteps] = useState(["10", "50", "100"]);
  const [minutes, setMinutes] = useState<number | string>(5);
  const start = useMutation({
    mutationFn: () =>
      drivers.startRollout({ driver: driver.name, version, steps: steps.map(Number), soak: { seconds: BigInt(Math.round(Number(minutes) * 60)) } }),
    onSuccess: onDone,
  });
  return (
    <form
      className="rollout-form"
      aria-label="Begin a rollout"
      onSubmit={(e) => {
        e.preventDefault();
        start.mutate();
      }}
    >
      <Select label="Version" data={others.map((v) => v.version)} value={version} onChange={(v) => setVersion(v ?? "")} allowDeselect={false} />
      <TagsInput label="Steps, percent of the twins" value={steps} onChange={(v) => setSteps(v.filter((s) => Number(s) >= 1 && Number(s) <= 100))} />
      <NumberInput label="Minutes per step" min={0.1} max={43200} step={1} value={minutes} onChange={setMinutes} />
      <Button type="submit" loading={start.isPending} disabled={!version || steps.length === 0}>
        Begin
      </Button>
      {start.error && (
        <Alert color="red" variant="light" role="alert">
          {explain(start.error)}
        </Alert>
      )}
    </form>
  );
}
