import { palettes, type Scheme } from "../../chart/palette";

export { palettes, type Scheme };

/** Behind the map: of slots that nobody has. */
export const grounds: Record<Scheme, string> = { light: "#ffffff", dark: "#131a28" };

/** Positions in the palette by node id. */
export type Colours = ReadonlyMap<string, number>;

/**
 * Gives new nodes the lowest free positions, in the order in which they come; who has one keeps it, who is gone frees it.
 * The same map is given back where nothing changes.
 */
export function assign(before: Colours, ids: readonly string[]): Colours {
  if (ids.length === before.size && ids.every((id) => before.has(id))) return before;
  const after = new Map<string, number>();
  for (const id of ids) {
    const kept = before.get(id);
    if (kept !== undefined) after.set(id, kept);
  }
  const taken = new Set(after.values());
  let next = 0;
  for (const id of ids) {
    if (after.has(id)) continue;
    while (taken.has(next)) next++;
    after.set(id, next);
    taken.add(next);
  }
  return after;
}

export function colourOf(colours: Colours, id: string, scheme: Scheme): string {
  const palette = palettes[scheme];
  return palette[(colours.get(id) ?? 0) % palette.length] as string;
}
