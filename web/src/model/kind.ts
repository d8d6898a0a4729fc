import type { Driver } from "../gen/pollux/v1/driver_pb";
import type { Model } from "../gen/pollux/v1/model_pb";
import { split } from "./id";
import { group } from "./versions";

/** What a twin is of: one of the two has a name. */
export interface Kind {
  driver: string;
  model: string;
}

/** A kind as the value of a choice: `driver NAME` or `model ID`; empty where it is neither. */
export function valueOf({ driver, model }: Kind): string {
  return model ? `model ${model}` : driver && `driver ${driver}`;
}

export function kindOf(value: string): Kind {
  const [what, name = ""] = [value.slice(0, value.indexOf(" ")), value.slice(value.indexOf(" ") + 1)];
  return { driver: what === "driver" ? name : "", model: what === "model" ? name : "" };
}

interface Choices {
  group: string;
  items: { value: string; label: string }[];
}

/** Models and drivers to choose from, in groups; with each version of a driver, where one may be asked for. */
export function kinds(drivers: Driver[], models: Model[], versions = false): Choices[] {
  return [
    { group: "Models", items: models.map((m) => ({ value: valueOf({ driver: "", model: m.id }), label: m.title ? `${m.title} (${short(m.id)})` : short(m.id) })) },
    {
      group: "Drivers",
      items: group(drivers).flatMap((g) => [
        { value: valueOf({ driver: g.name, model: "" }), label: versions ? `${g.name} (newest)` : g.name },
        ...(versions ? g.versions.map((v) => `${v.name}@${v.version}`).map((v) => ({ value: valueOf({ driver: v, model: "" }), label: v })) : []),
      ]),
    },
  ];
}

/** An id without `default/`. */
function short(id: string): string {
  const { project, name } = split(id);
  return project === "default" ? name : id;
}
