import type { SlotMap } from "../../gen/pollux/v1/cluster_pb";

/** The map is a square: slot 0 at the upper left, a row of `side` slots after another. */
export const side = 128;
export const slotCount = side * side;

/** Pixels of the canvas per side of a slot's cell; the inner half shows where a slot goes that is on its way. */
export const cell = 4;

export function placeOf(slot: number): { column: number; row: number } {
  return { column: slot % side, row: Math.floor(slot / side) };
}

/** The slot at a point of a map that is drawn `size` wide and high; undefined outside. */
export function slotAt(x: number, y: number, size: number): number | undefined {
  const column = Math.floor((x / size) * side);
  const row = Math.floor((y / size) * side);
  if (!(column >= 0 && column < side && row >= 0 && row < side)) return undefined;
  return row * side + column;
}

/** The slot that a key leads to from another one; undefined where the key leads nowhere. */
export function step(slot: number, key: string): number | undefined {
  const { column, row } = placeOf(slot);
  switch (key) {
    case "ArrowLeft":
      return column > 0 ? slot - 1 : slot;
    case "ArrowRight":
      return column < side - 1 ? slot + 1 : slot;
    case "ArrowUp":
      return row > 0 ? slot - side : slot;
    case "ArrowDown":
      return row < side - 1 ? slot + side : slot;
    default:
      return undefined;
  }
}

export interface Share {
  id: string;
  name: string;
  /** Slots that it has, and that it shall have. */
  owned: number;
  due: number;
}

/** What each node has and shall have, by name; and the slots that nobody has. */
export function shares(map: SlotMap): { nodes: Share[]; orphaned: number; moving: number } {
  const positions = map.nodes.map((id, i) => ({ id, name: map.names[i] || id, owned: 0, due: 0 }));
  let orphaned = 0;
  let moving = 0;
  for (let slot = 0; slot < map.owners.length; slot++) {
    const owner = map.owners[slot] ?? 0;
    const target = map.targets[slot] ?? 0;
    const has = positions[owner - 1];
    const shall = positions[target - 1];
    if (has) has.owned++;
    else orphaned++;
    if (shall) shall.due++;
    if (!has || (shall && owner !== target)) moving++;
  }
  const nodes = [...positions].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return { nodes, orphaned, moving };
}

/** Colours as a canvas keeps them, by position in the map plus 1; 0: of slots that nobody has. */
export type Inks = Uint32Array;

/** `#rrggbb` as the bytes R, G, B, A of a canvas, read as a number on the little-endian machines that browsers run on. */
export function ink(colour: string, alpha = 255): number {
  const n = Number.parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((n & 0xff) << 16) | (n & 0xff00) | (n >> 16)) >>> 0;
}

/**
 * Paints the map into the pixels of a square canvas of side × cell. A cell has its owner's colour; where the slot shall go
 * elsewhere, the inner pixels have the new owner's. With `only`, a position plus 1, all other nodes' are faint.
 */
export function paint(pixels: Uint32Array, map: Pick<SlotMap, "owners" | "targets">, inks: Inks, faint: Inks, only?: number) {
  const width = side * cell;
  const inner = cell >> 2;
  for (let slot = 0; slot < slotCount; slot++) {
    const owner = map.owners[slot] ?? 0;
    const target = map.targets[slot] ?? 0;
    const of = (n: number) => (only === undefined || only === n ? inks : faint)[n] ?? inks[0] ?? 0;
    const base = of(owner);
    const { column, row } = placeOf(slot);
    const start = row * cell * width + column * cell;
    for (let y = 0; y < cell; y++) pixels.fill(base, start + y * width, start + y * width + cell);
    if (target === owner || target === 0) continue;
    const core = of(target);
    for (let y = inner; y < cell - inner; y++) pixels.fill(core, start + y * width + inner, start + y * width + cell - inner);
  }
}

/** Numbers as ranges for a reader: `0–15, 17, 40–41`; at most `most` of them. */
export function ranges(numbers: Iterable<number>, most = 12): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const out: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (sorted[end + 1] === (sorted[end] as number) + 1) end++;
    if (out.length === most) return `${out.join(", ")} and ${sorted.length - i} more`;
    out.push(end === i ? `${sorted[i]}` : `${sorted[i]}–${sorted[end]}`);
    i = end + 1;
  }
  return out.join(", ");
}
