import type { Zone } from "../../gen/pollux/v1/site_pb";

/** A zone with its depth in the tree, and whether something is below it. */
export interface Branch {
  zone: Zone;
  depth: number;
  below: number;
}

/**
 * The zones as the lines of a tree, each below the one that it is in; what is below a closed one is left out. A zone whose parent is
 * not there, or that is below itself, stands at the top.
 */
export function tree(zones: readonly Zone[], closed: ReadonlySet<string>): Branch[] {
  const byId = new Map(zones.map((z) => [z.id, z]));
  const children = new Map<string, Zone[]>();
  for (const z of [...zones].sort((a, b) => name(a).localeCompare(name(b), "en", { numeric: true }))) {
    const parent = byId.has(z.parent) && !ringed(byId, z) ? z.parent : "";
    children.set(parent, [...(children.get(parent) ?? []), z]);
  }
  const lines: Branch[] = [];
  const walk = (parent: string, depth: number) => {
    for (const zone of children.get(parent) ?? []) {
      lines.push({ zone, depth, below: children.get(zone.id)?.length ?? 0 });
      if (!closed.has(zone.id)) walk(zone.id, depth + 1);
    }
  };
  walk("", 0);
  return lines;
}

const name = (z: Zone) => z.title || z.id;

/** Whether the way up from a zone never ends. */
function ringed(byId: ReadonlyMap<string, Zone>, zone: Zone): boolean {
  let at = byId.get(zone.parent);
  for (let steps = 0; at; steps++) {
    if (steps > byId.size) return true;
    at = byId.get(at.parent);
  }
  return false;
}
