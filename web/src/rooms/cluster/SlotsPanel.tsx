import { useComputedColorScheme } from "@mantine/core";
import { useState } from "react";

import type { ListSlotsResponse, Move } from "../../gen/pollux/v1/cluster_pb";
import { count } from "../../model/value";
import { colourOf, grounds, type Colours } from "./colours";
import { listed, plural } from "./sentences";
import { SlotCanvas } from "./SlotCanvas";
import { ink, shares, slotCount } from "./slots";
import { Swatch } from "./Swatch";

interface Props {
  slots: ListSlotsResponse;
  moves: readonly Move[];
  colours: Colours;
  /** A slot that somebody looks for. */
  found: number | undefined;
}

/** All slots at once: who has them, and where they go. */
export function SlotsPanel({ slots: { map }, moves, colours, found }: Props) {
  const scheme = useComputedColorScheme("light");
  const [only, setOnly] = useState<string>();
  if (!map) return null;
  const { nodes, orphaned, moving } = shares(map);
  const picked = only === undefined ? -1 : map.nodes.indexOf(only);
  const inks = (alpha: number) =>
    Uint32Array.from([ink(grounds[scheme], alpha), ...map.nodes.map((id) => ink(colourOf(colours, id, scheme), alpha))]);
  const summary = `${plural(slotCount, "slot")}: ${listed(nodes.map((n) => `${n.name} has ${count(n.owned)}`))}`;

  return (
    <section className="panel slots" aria-label="Slots">
      <h2>
        Slots
        <small className="muted">{moving === 0 ? "all where they shall be" : `${count(moving)} on their way`}</small>
      </h2>
      <div className="slots-body">
        <SlotCanvas map={map} moves={moves} inks={inks(255)} faint={inks(38)} only={picked < 0 ? undefined : picked + 1} found={found} label={summary} />
        <ul className="legend" aria-label="Slots by node">
          {nodes.map((n) => (
            <li key={n.id}>
              <button type="button" aria-pressed={only === n.id} onClick={() => setOnly(only === n.id ? undefined : n.id)} title="Show only this node’s">
                <Swatch colours={colours} id={n.id} />
                <span>{n.name}</span>
                <b>{count(n.owned)}</b>
                <small className="muted">
                  {n.due === n.owned ? `${((100 * n.owned) / slotCount).toFixed(1)} %` : `→ ${count(n.due)}`}
                </small>
              </button>
            </li>
          ))}
          {orphaned > 0 && (
            <li className="bad">
              <i className="swatch" data-nobody aria-hidden="true" />
              nobody <b>{count(orphaned)}</b>
            </li>
          )}
          <li className="legend-note muted">A dot in a square is the node that it goes to. Point at a square, or walk with the arrow keys.</li>
        </ul>
      </div>
    </section>
  );
}
