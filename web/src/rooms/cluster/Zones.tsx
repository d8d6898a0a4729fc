import type { Node } from "../../gen/pollux/v1/cluster_pb";
import { NodeBox, type NodeContext } from "./NodeBox";
import { plural, zonesOf } from "./sentences";

/** The nodes, each in the box of its availability zone. */
export function Zones({ nodes, ...context }: { nodes: readonly Node[] } & Omit<NodeContext, "nodes">) {
  return (
    <div className="zones">
      {zonesOf(nodes).map((zone) => (
        <section key={zone.name} className="zone" aria-label={zone.name ? `Availability zone ${zone.name}` : "No availability zone"}>
          <h2>
            {zone.name ? `Zone ${zone.name}` : "No availability zone"}
            <small className="muted">{plural(zone.nodes.length, "node")}</small>
          </h2>
          <div className="zone-nodes">
            {zone.nodes.map((node) => (
              <NodeBox key={node.id} node={node} nodes={nodes} {...context} />
            ))}
          </div>
        </section>
      ))}
    </div>
  );
}
