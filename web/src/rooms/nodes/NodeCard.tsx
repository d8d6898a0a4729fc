import type { ReactNode } from "react";

import type { Node } from "../../gen/pollux/v1/cluster_pb";
import { useNow } from "../../live/now";
import { bytes, count, millis, span } from "../../model/value";

/** One node. `slots` is how many the cluster has in all, `here` marks the node that answers this page. */
export function NodeCard({ node, slots, here }: { node: Node; slots: number; here: boolean }) {
  const now = useNow();
  const started = millis(node.startTime);
  const lease = Number(node.leaseMs);
  return (
    <section className="panel node" aria-label={`Node ${node.name || node.id}`} data-state={node.state}>
      <h2>
        <span className="status" data-status={node.state === "alive" ? "connected" : node.state === "suspect" ? "connecting" : "fault"}>
          <i aria-hidden="true" />
          {node.name || node.id}
        </span>
        <span className="pill">{node.role || node.state}</span>
        {here && <span className="muted">this page’s node</span>}
        {node.availabilityZone && <span className="muted">zone {node.availabilityZone}</span>}
      </h2>
      <dl className="node-facts">
        <Fact name="Actors">{count(node.actors)}</Fact>
        <Fact name="Slots">
          <Bar share={slots ? node.slots / slots : 0} label="Share of the slots" />
          {count(node.slots)}
        </Fact>
        <Fact name="CPU">
          <Bar share={node.cpuShare} label="CPU" />
          {Math.round(node.cpuShare * 100)} %
        </Fact>
        <Fact name="Memory">
          {bytes(node.memoryBytes)}
          <small className="muted"> of it drivers {bytes(node.guestMemoryBytes)}</small>
        </Fact>
        <Fact name="Disk">{bytes(node.diskBytes)}</Fact>
        <Fact name="Lease">
          {lease > 0 ? `${(lease / 1000).toFixed(1)} s left` : <b className="bad">none</b>}
        </Fact>
        <Fact name="Goroutines">{count(node.goroutines)}</Fact>
        <Fact name="Up">{started ? span(now - started) : "–"}</Fact>
        <Fact name="Version">{node.version || "–"}</Fact>
        {Object.entries(node.addresses)
          .sort()
          .map(([name, address]) => (
            <Fact key={name} name={name}>
              <code>{address}</code>
            </Fact>
          ))}
      </dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Bar({ share, label }: { share: number; label: string }) {
  const percent = Math.round(Math.min(1, Math.max(0, share)) * 100);
  return (
    <span className="bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent}>
      <i style={{ width: `${percent}%` }} />
    </span>
  );
}
