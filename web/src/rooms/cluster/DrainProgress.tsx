import { useState } from "react";

import type { Move, Node } from "../../gen/pollux/v1/cluster_pb";
import { awaitedBy } from "./moves";
import { fairShare, slotsText } from "./sentences";

/** At most so many sentences of what is awaited. */
const most = 3;

/** How far a node's drain is: the slots that it still has, and whom they wait for. */
export function DrainProgress({ node, nodes, moves }: { node: Node; nodes: readonly Node[]; moves: readonly Move[] }) {
  // The page may have come in the middle: the bar begins at what the node had at the least.
  const [whole, setWhole] = useState(() => Math.max(node.slots, fairShare(node, nodes)));
  if (node.slots > whole) setWhole(node.slots);
  if (node.state !== "draining") return null;
  if (node.slots === 0) {
    return (
      <p className="drain" role="status" data-done>
        <b>Drained.</b> It has no slots and no twins, and can be stopped.
      </p>
    );
  }
  const percent = Math.round((1 - node.slots / whole) * 100);
  const awaited = awaitedBy(moves, node.id);
  return (
    <div className="drain" role="status">
      <span className="bar" role="progressbar" aria-label="Drain" aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent}>
        <i style={{ width: `${percent}%` }} />
      </span>
      <b>{slotsText(node.slots)} left</b>
      {awaited.slice(0, most).map((text) => (
        <small key={text}>awaits {text}</small>
      ))}
      {awaited.length > most && <small>and {awaited.length - most} more</small>}
    </div>
  );
}
