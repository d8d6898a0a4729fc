import "./cluster.css";

import { Button, Loader } from "@mantine/core";
import { useState } from "react";
import { useSearchParams } from "wouter";

import { explain } from "../../api/errors";
import { Line } from "../../frame/Line";
import { full } from "../../model/id";
import { ChartIcon, PlusIcon } from "../../shell/icons";
import { AddNode } from "./AddNode";
import { Figures, Refused } from "./Figures";
import { FindTwin, useFound } from "./FindTwin";
import { HandOvers } from "./HandOvers";
import { openMetrics } from "./metrics";
import { SlotsPanel } from "./SlotsPanel";
import { Survives } from "./Survives";
import { useCluster, useJoinTokens } from "./useCluster";
import { Zones } from "./Zones";

/** The machines: what they survive, how each stands, who has which slots, and where a twin lives. */
export function ClusterRoom() {
  const { status, nodes, slots, moves, colours, pending, error } = useCluster();
  const { administrator, tokens } = useJoinTokens();
  const [adding, setAdding] = useState(false);
  const [params, setParams] = useSearchParams();
  const asked = params.get("twin") ?? "";
  const twin = asked && full(asked);
  const found = useFound(twin);

  return (
    <>
      <header className="room-head">
        <h1>Cluster</h1>
        {status?.clusterId && <span className="muted">{status.clusterId}</span>}
        <div className="head-tools">
          {administrator && (
            <Button leftSection={<PlusIcon size={14} />} onClick={() => setAdding(true)}>
              Add a node
            </Button>
          )}
          <Button variant="default" leftSection={<ChartIcon size={14} />} onClick={() => void openMetrics()}>
            Metrics
          </Button>
        </div>
      </header>
      {error && (
        <p className="trouble" role="alert">
          {explain(error)}
        </p>
      )}
      {pending && <Loader size="sm" m="md" aria-label="Loading" />}
      {status && <Survives status={status} moving={slots?.moving ?? status.slotsMoving} />}
      {nodes.length === 1 && <Second />}
      {nodes.length > 0 && (
        <div className="cluster-grid">
          <div className="cluster-side">
            <Zones nodes={nodes} moves={moves} colours={colours} here={status?.node ?? ""} administrator={administrator} />
            <HandOvers map={slots?.map} moves={moves} />
          </div>
          <div className="cluster-side">
            <FindTwin id={twin} found={found} colours={colours} onFind={(id) => setParams(id ? { twin: id } : {}, { replace: true })} />
            {slots && <SlotsPanel slots={slots} moves={moves} colours={colours} found={twin ? found.data?.placement?.slot : undefined} />}
            {status && <Refused counts={status.refused} />}
          </div>
        </div>
      )}
      {status && <Figures status={status} />}
      <AddNode tokens={tokens} opened={adding} onClose={() => setAdding(false)} />
    </>
  );
}

/** What one node alone is told. */
function Second() {
  return (
    <section className="panel second" aria-label="A second node">
      <p>
        <b>One node holds everything.</b> Three survive the loss of any one. On this machine, this prints the one line to paste on the
        next:
      </p>
      <Line text="pollux cluster token" label="Command" />
    </section>
  );
}
