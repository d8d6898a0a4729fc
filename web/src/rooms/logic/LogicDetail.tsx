import { Button, Loader } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "wouter";

import { drivers, twins } from "../../api/client";
import { Trouble } from "../../frame/Room";
import type { Logic } from "../../gen/pollux/v1/logic_pb";
import { split, twinPath } from "../../model/id";
import { count } from "../../model/value";
import { Facts } from "../automation/Facts";
import { Feed } from "../twin/Feed";
import { StopButton } from "../twin/StopButton";
import { useTwinWatch } from "../twin/useTwinWatch";
import { useSource } from "./useLogics";
import { Workbench } from "./Workbench";

/** One logic: how it does, its code, what it would do, and what it says. */
export function LogicDetail({ logic: m }: { logic: Logic }) {
  const { feed } = useTwinWatch(m.id);
  const source = useSource(m);
  return (
    <>
      <section className="panel" aria-label={`Logic ${m.id}`}>
        <Head logic={m} />
        <Trouble error={m.fault} inside />
        <Trouble error={source.error} inside />
        {m.source && source.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
        {(source.data !== undefined || !m.source) && <Workbench id={m.id} driver={m.driver} source={source.data} />}
      </section>
      <Feed key={m.id} id={m.id} feed={feed} />
    </>
  );
}

function Head({ logic: m }: { logic: Logic }) {
  const queries = useQueryClient();
  const twin = useQuery({ queryKey: ["twin", m.id, "record"], queryFn: async ({ signal }) => (await twins.getTwin({ id: m.id }, { signal })).twin, refetchInterval: 5000 });
  const versions = useQuery({ queryKey: ["drivers", m.driver], queryFn: async ({ signal }) => (await drivers.listDrivers({ name: m.driver, pageSize: 200 }, { signal })).drivers, refetchInterval: 5000 });
  const back = useMutation({
    mutationFn: () => drivers.rollback({ driver: m.driver }),
    onSuccess: ({ rollout }) => notifications.show({ color: "teal", message: `${m.driver} goes back to ${rollout?.version}` }),
    onSettled: () => Promise.all([queries.invalidateQueries({ queryKey: ["logic"] }), queries.invalidateQueries({ queryKey: ["drivers"] })]),
  });
  const c = m.counts;
  // The version that it has comes first.
  const failures = Object.entries(c?.failures ?? {}).sort(([a], [b]) => Number(b === m.version) - Number(a === m.version) || b.localeCompare(a, undefined, { numeric: true }));
  return (
    <>
      <div className="detail-head">
        <div>
          <h2>
            {m.title || split(m.id).name} <code>{m.id}</code>
          </h2>
          <Facts
            list={[
              ["Version", m.version],
              ["System", m.system || "–"],
              ["Routes", m.routes.join(", ") || "–"],
              ["Topics", m.reads.map((r) => `${r.topic} by ${r.channel}`).join(", ") || "–"],
              ["Notifiers", m.notifiers.join(", ") || "–"],
              ["Detectors", m.detectors.join(", ") || "–"],
              ["Calls", count(c?.calls ?? 0n)],
              ["Passed", count(c?.passed ?? 0n)],
              ["Replaced", count(c?.replaced ?? 0n)],
              ["Stopped", count(c?.stopped ?? 0n)],
              ["Failed", count((c?.failed ?? 0n) + (c?.commandsFailed ?? 0n))],
              ["Crashes", count(c?.crashes ?? 0n)],
            ]}
          />
        </div>
        <span className="head-actions">
          <Button variant="default" component={Link} href={twinPath(m.id)}>
            Twin
          </Button>
          {twin.data && <StopButton twin={twin.data} />}
          {(versions.data?.length ?? 0) > 1 && (
            <Button variant="default" color="red" loading={back.isPending} onClick={() => back.mutate()} title="Its twins go back to the version before">
              Roll back
            </Button>
          )}
          <Button variant="default" component={Link} href={`/drivers/${m.driver}`}>
            Versions
          </Button>
        </span>
      </div>
      <Trouble error={back.error} inside />
      {failures.length > 0 && (
        <ul className="muted pad logic-last" aria-label="Last failures">
          {failures.map(([version, why]) => (
            <li key={version}>
              The last failure of {version}: {why}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}
