import { useComputedColorScheme } from "@mantine/core";
import type { ReactNode } from "react";

import type { Move, Node } from "../../gen/pollux/v1/cluster_pb";
import { useNow } from "../../live/now";
import { bytes, count, dateTime, millis, span } from "../../model/value";
import { colourOf, type Colours } from "./colours";
import { DrainProgress } from "./DrainProgress";
import { NodeActions } from "./NodeActions";
import { addressLines, nameOf, stateOf } from "./sentences";
import { slotCount } from "./slots";
import { Swatch } from "./Swatch";

/** What a node's box knows of the rest. */
export interface NodeContext {
  nodes: readonly Node[];
  moves: readonly Move[];
  colours: Colours;
  /** Id of the node that answers this page. */
  here: string;
  administrator: boolean;
}

const lights: Record<string, string> = {
  alive: "connected",
  suspect: "connecting",
  draining: "connecting",
  drained: "stopped",
  left: "stopped",
};

/** One node: how it stands, what it has, and what can be done with it. */
export function NodeBox({ node, ...context }: { node: Node } & NodeContext) {
  const now = useNow();
  const scheme = useComputedColorScheme("light");
  const state = stateOf(node);
  const started = millis(node.startTime);
  const contact = millis(node.raftContactTime);
  const labels = Object.entries(node.labels).sort();
  return (
    <section className="panel node" aria-label={`Node ${nameOf(node)}`} data-state={state}>
      <h2>
        <Swatch colours={context.colours} id={node.id} />
        {nameOf(node)}
        <span className="status" data-status={lights[state] ?? "fault"}>
          <i aria-hidden="true" />
          {state}
        </span>
        {node.role && (
          <span className="pill" data-role={node.role}>
            {node.role}
          </span>
        )}
        {node.id === context.here && <small className="muted here">answers this page</small>}
      </h2>
      <dl className="node-facts">
        <Fact name="Slots" wide>
          <Bar share={node.slots / slotCount} label="Share of the slots" colour={colourOf(context.colours, node.id, scheme)} />
          <b>{count(node.slots)}</b>
          {node.slotsTarget !== node.slots && <span className="muted">→ {count(node.slotsTarget)}</span>}
        </Fact>
        <Figures node={node} />
        <Fact name="Version">{node.version || "–"}</Fact>
        {node.site && <Fact name="Site">{node.site}</Fact>}
        {started !== undefined && (
          <Fact name="Up">
            <span title={dateTime(started)}>{span(now - started)}</span>
          </Fact>
        )}
        {node.role && node.role !== "leader" && contact !== undefined && now - contact > 3000 && (
          <Fact name="Leader heard it">
            <span className="bad">{span(now - contact)} ago</span>
          </Fact>
        )}
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
      <DrainProgress key={node.state} node={node} nodes={context.nodes} moves={context.moves} />
      {context.administrator && <NodeActions node={node} nodes={context.nodes} />}
      <Addresses node={node} />
    </section>
  );
}

/** What only the node itself knows; where it does not answer, why. */
function Figures({ node }: { node: Node }) {
  const lease = Number(node.leaseMs);
  if (node.silence) {
    return (
      <Fact name="Figures" wide>
        <span className="muted">{node.silence}</span>
      </Fact>
    );
  }
  return (
    <>
      <Fact name="Actors">{count(node.actors)}</Fact>
      <Fact name="Memory">
        <span title={`${bytes(node.guestMemoryBytes)} of it for drivers`}>{bytes(node.memoryBytes)}</span>
      </Fact>
      <Fact name="Lease">{lease > 0 ? `${(lease / 1000).toFixed(1)} s left` : <b className="bad">none</b>}</Fact>
      <Fact name="CPU">{Math.round(node.cpuShare * 100)} %</Fact>
      <Fact name="Disk">
        {bytes(node.diskBytes)}
        {node.diskSizeBytes > 0n && <span title={`of ${bytes(node.diskSizeBytes)}`}>, {bytes(node.diskFreeBytes)} free</span>}
      </Fact>
    </>
  );
}

function Addresses({ node }: { node: Node }) {
  const list = addressLines(node.addresses);
  if (list.length === 0) return null;
  return (
    <p className="node-addresses">
      {list.map(({ host, ports }) => (
        <span key={host}>
          <code>{host}</code> {ports}
        </span>
      ))}
    </p>
  );
}

function Fact({ name, wide, children }: { name: string; wide?: boolean; children: ReactNode }) {
  return (
    <div className={wide ? "wide" : undefined}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Bar({ share, label, colour }: { share: number; label: string; colour: string }) {
  const percent = Math.round(Math.min(1, Math.max(0, share)) * 100);
  return (
    <span className="bar" role="meter" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent}>
      <i style={{ width: `${percent}%`, background: colour }} />
    </span>
  );
}
