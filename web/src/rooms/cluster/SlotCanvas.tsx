import { useEffect, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";

import type { Move, SlotMap } from "../../gen/pollux/v1/cluster_pb";
import { cell, paint, placeOf, side, slotAt, step, type Inks } from "./slots";

interface Props {
  map: SlotMap;
  moves: readonly Move[];
  inks: Inks;
  faint: Inks;
  /** Position plus 1 of the only node that is shown in full. */
  only: number | undefined;
  found: number | undefined;
  label: string;
}

const pixels = side * cell;

/** The map itself, with a card for the slot under the pointer and a ring around the one that somebody looks for. */
export function SlotCanvas({ map, moves, inks, faint, only, found, label }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [at, setAt] = useState<number>();
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    const image = context.createImageData(pixels, pixels);
    paint(new Uint32Array(image.data.buffer), map, inks, faint, only);
    context.putImageData(image, 0, 0);
  }, [map, inks, faint, only]);

  const point = (event: PointerEvent<HTMLCanvasElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    setAt(slotAt(event.clientX - box.left, event.clientY - box.top, box.width));
  };
  const walk = (event: KeyboardEvent) => {
    const next = step(at ?? found ?? 0, event.key);
    if (next === undefined) return;
    event.preventDefault();
    setAt(next);
  };

  return (
    <div className="slot-map">
      <canvas
        ref={canvas}
        width={pixels}
        height={pixels}
        role="img"
        tabIndex={0}
        aria-label={label}
        onPointerMove={point}
        onPointerLeave={() => setAt(undefined)}
        onBlur={() => setAt(undefined)}
        onKeyDown={walk}
      />
      {found !== undefined && <Ring slot={found} />}
      {at !== undefined && <Card map={map} moves={moves} slot={at} />}
    </div>
  );
}

const percent = (n: number) => `${((n + 0.5) / side) * 100}%`;

function Ring({ slot }: { slot: number }) {
  const { column, row } = placeOf(slot);
  return <span className="slot-ring" role="img" aria-label={`Slot ${slot}`} style={{ left: percent(column), top: percent(row) }} />;
}

function Card({ map, moves, slot }: { map: SlotMap; moves: readonly Move[]; slot: number }) {
  const { column, row } = placeOf(slot);
  const name = (n: number | undefined) => (n ? map.names[n - 1] || map.nodes[n - 1] : undefined);
  const owner = map.owners[slot];
  const target = map.targets[slot];
  const move = moves.find((m) => m.slot === slot && !m.endTime);
  return (
    <dl
      className="slot-card"
      role="status"
      data-left={column > side / 2 || undefined}
      data-up={row > side / 2 || undefined}
      style={{ left: percent(column), top: percent(row) }}
    >
      <dt>Slot</dt>
      <dd>{slot}</dd>
      <dt>Owner</dt>
      <dd>{name(owner) ?? "nobody"}</dd>
      <dt>Since</dt>
      <dd>{map.since[slot] === undefined ? "–" : `owner no. ${map.since[slot]}`}</dd>
      <dt>Target</dt>
      <dd>
        {target === owner || !target ? "stays" : name(target)}
        {move && `, ${move.state}`}
      </dd>
      {move?.awaited && <dd className="wide muted">awaits {move.awaited}</dd>}
    </dl>
  );
}
