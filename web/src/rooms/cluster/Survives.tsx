import type { GetStatusResponse } from "../../gen/pollux/v1/cluster_pb";
import { listed, slotsText, survives } from "./sentences";

/** The first line of the room: what the cluster can bear, and what is going on. */
export function Survives({ status, moving }: { status: GetStatusResponse; moving: number }) {
  const { text, tone } = survives(status);
  return (
    <p className="survives" data-tone={tone} role="status" aria-label="What the cluster survives">
      <i aria-hidden="true" />
      <b>{text}</b>
      {moving > 0 && <span>{slotsText(moving)} on their way.</span>}
      {status.silent.length > 0 && <span className="bad">No figures from {listed(status.silent)}.</span>}
    </p>
  );
}
