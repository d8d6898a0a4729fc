import "./nodes.css";

import { Button, Loader } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { cluster } from "../../api/client";
import { explain } from "../../api/errors";
import { ChartIcon } from "../../shell/icons";
import { ClusterStatus, Refused } from "./ClusterStatus";
import { NodeCard } from "./NodeCard";
import { openMetrics } from "./metrics";

/** The machines: where everything runs, how they stand, and what they turned away. */
export function NodesRoom() {
  const status = useQuery({
    queryKey: ["status"],
    queryFn: ({ signal }) => cluster.getStatus({}, { signal }),
    refetchInterval: 2000,
  });
  const nodes = useQuery({
    queryKey: ["nodes"],
    queryFn: ({ signal }) => cluster.listNodes({}, { signal }),
    refetchInterval: 2000,
  });
  const error = status.error ?? nodes.error;
  const list = nodes.data?.nodes ?? [];
  const slots = list.reduce((n, node) => n + node.slots, 0);

  return (
    <>
      <header className="room-head">
        <h1>Nodes</h1>
        {status.data?.clusterId && <span className="muted">cluster {status.data.clusterId}</span>}
        <Button variant="default" leftSection={<ChartIcon size={14} />} ml="auto" onClick={() => void openMetrics()}>
          Metrics
        </Button>
      </header>
      {error && (
        <p className="trouble" role="alert">
          {explain(error)}
        </p>
      )}
      {status.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      {status.data && <ClusterStatus status={status.data} />}
      <div className="nodes">
        {list.map((node) => (
          <NodeCard key={node.id} node={node} slots={slots} here={node.id === status.data?.node || node.name === status.data?.node} />
        ))}
        {status.data && <Refused counts={status.data.refused} />}
      </div>
    </>
  );
}
