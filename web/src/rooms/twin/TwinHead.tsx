import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "wouter";

import { cluster } from "../../api/client";
import type { Twin, TwinState } from "../../gen/pollux/v1/twin_pb";
import { useNow } from "../../live/now";
import { lastSeen } from "../../live/store";
import { split, splitDriver, twinPath } from "../../model/id";
import { StatusBadge } from "../../model/StatusBadge";
import { ago, dateTime } from "../../model/value";

export function TwinHead({ twin, state, title }: { twin: Twin; state: TwinState | undefined; title: string }) {
  const { project, name } = split(twin.id);
  const now = useNow();
  const seen = lastSeen(state, twin.state);
  const labels = Object.entries(twin.labels).sort();
  return (
    <div className="twin-head">
      <div className="twin-name">
        <h1>
          <span className="muted">{project}/</span>
          {name}
        </h1>
        <StatusBadge status={state?.status} stopped={twin.stopped} />
      </div>
      <dl className="facts">
        {twin.model ? (
          <Fact name="Model">
            <Link href={`/models/${twin.model}`}>{twin.model}</Link>
            {title && <span className="muted"> {title}</span>}
          </Fact>
        ) : (
          <Fact name="Driver">
            <Link href={`/drivers/${splitDriver(twin.driver).name}`}>{twin.driver}</Link>
            {title && <span className="muted"> {title}</span>}
            <DriverVersion asked={twin.driverVersion} runs={state?.driverVersion ?? ""} />
          </Fact>
        )}
        {twin.uri && (
          <Fact name="Address">
            <code>{twin.uri}</code>
          </Fact>
        )}
        {twin.zone && <Fact name="Zone">{twin.zone}</Fact>}
        {twin.via && (
          <Fact name="Via">
            <Link href={twinPath(twin.via)}>{twin.via}</Link>
          </Fact>
        )}
        <Home id={twin.id} node={state?.status?.node ?? ""} />
        {twin.selector && (
          <Fact name="May live on">
            <code>{twin.selector}</code>
          </Fact>
        )}
        <Fact name="Last seen">
          <span title={dateTime(seen)}>{seen ? ago(seen, now) : "never"}</span>
        </Fact>
        {labels.length > 0 && (
          <Fact name="Labels">
            {labels.map(([k, v]) => (
              <span key={k} className="tag">
                {k}={v}
              </span>
            ))}
          </Fact>
        )}
      </dl>
    </div>
  );
}

/** The version that runs, and the one that comes where that is another. */
function DriverVersion({ asked, runs }: { asked: string; runs: string }) {
  if (!runs) return asked ? <span className="muted">, {asked} not loaded</span> : null;
  return (
    <span className="muted">
      , runs {runs}
      {asked && asked !== runs && `, ${asked} comes`}
    </span>
  );
}

/** The node that the twin lives on, and the one that it moves to; a link to its place in the cluster. */
function Home({ id, node }: { id: string; node: string }) {
  const { data } = useQuery({
    // Asked again at once when the twin says that it lives elsewhere.
    queryKey: ["placement", id, node],
    queryFn: async ({ signal }) => (await cluster.getPlacement({ id }, { signal })).placement,
    refetchInterval: 5000,
    placeholderData: keepPreviousData,
  });
  const name = data?.nodeName || data?.node || node;
  if (!name) return null;
  return (
    <Fact name="Node">
      <Link href={`/cluster?twin=${encodeURIComponent(id)}`} title={data && `Slot ${data.slot}, since owner no. ${data.since}`}>
        {name}
      </Link>
      {data && data.target !== data.node && <span className="muted"> → {data.targetName || data.target}</span>}
    </Fact>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
