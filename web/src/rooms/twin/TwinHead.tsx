import { Link } from "wouter";

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
        <Fact name="Driver">
          <Link href={`/drivers/${splitDriver(twin.driver).name}`}>{twin.driver}</Link>
          {title && <span className="muted"> {title}</span>}
        </Fact>
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
        {state?.status?.node && <Fact name="Node">{state.status.node}</Fact>}
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

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
