export type Scheme = "light" | "dark";

/**
 * A node's colour in the map, the same in its box and in the legend. Chosen so that any two of a scheme, and each from its
 * ground, keep apart for people who see no red, no green or no blue; the test computes that. The ninth node shares the
 * first one's colour: the legend's button and the pointer tell them apart.
 */
export const palettes: Record<Scheme, readonly string[]> = {
  light: ["#0072b2", "#e69f00", "#a3195b", "#51c8f7", "#5d2209", "#b7ab80", "#17278c", "#8a6805"],
  dark: ["#3f9fe0", "#f0a83a", "#c04f7d", "#acf8fd", "#e4f1c3", "#876502", "#5a58e0", "#b8a963"],
};

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
