import type { Property } from "../gen/pollux/v1/twin_pb";
import { inOrder, type Model, type PropertyModel } from "./thing";

/** A property worth a place in a row. */
export interface Ranked {
  name: string;
  unit?: string;
}

/**
 * The properties of a state, most telling first: what can be set, then what the unit has beyond its driver's model (its
 * relays and sensors), then the model's measures, and last what only names things, such as versions and addresses.
 */
export function ranked(properties: Record<string, Property>, model: Model | undefined, limit: number): Ranked[] {
  const place = new Map(model?.properties.map((p, i) => [p.name, { p, i }]));
  return Object.entries(properties)
    .map(([name, property]) => {
      const known = place.get(name);
      return { name, unit: known?.p.unit, rank: rank(property, known?.p), at: known?.i ?? Infinity };
    })
    .sort((a, b) => a.rank - b.rank || (a.at === b.at ? (a.name < b.name ? -1 : 1) : a.at - b.at))
    .slice(0, limit);
}

/** The same for a unit's own model, `written` being its driver's: a list in the order in which a page shows it. */
export function arranged(unit: Model, written: Model | undefined): PropertyModel[] {
  const known = new Set(written?.properties.map((p) => p.name));
  const rank = (p: PropertyModel) => {
    const measure = p.numeric || p.schema.enum !== undefined;
    if (p.writable) return 0;
    return (known.has(p.name) || !written ? 3 : 1) + (measure ? 0 : 1);
  };
  return inOrder(unit.properties, written?.properties).sort((a, b) => rank(a) - rank(b));
}

function rank(property: Property, model: PropertyModel | undefined): number {
  const kind = property.value?.kind.case;
  if (model?.writable) return 0;
  if (!model) return kind === "boolValue" ? 1 : kind === "numberValue" ? 2 : 4;
  return kind === "boolValue" || kind === "numberValue" || model.schema.enum ? 3 : 5;
}
