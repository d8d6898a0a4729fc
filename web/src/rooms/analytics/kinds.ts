import { DetectorKind, type Detector } from "../../gen/pollux/v1/analytics_pb";

/** A kind of detector: its name, what it finds, and which settings it has besides the threshold. */
export interface Kind {
  kind: DetectorKind;
  name: string;
  finds: string;
  /** What its threshold is where none is given; 0: it judges nothing. */
  threshold: number;
  uses: ("window" | "readings" | "tolerance" | "timeZone" | "logic")[];
}

export const kinds: Kind[] = [
  { kind: DetectorKind.EWMA, name: "ewma", finds: "spikes and steps", threshold: 6, uses: ["readings", "tolerance"] },
  { kind: DetectorKind.SEASONAL, name: "seasonal", finds: "not as usual at this hour of the week", threshold: 4, uses: ["timeZone", "tolerance"] },
  { kind: DetectorKind.SHIFT, name: "shift", finds: "the level has changed", threshold: 12, uses: ["readings", "tolerance"] },
  { kind: DetectorKind.STUCK, name: "stuck", finds: "readings do not change any more", threshold: 1, uses: ["window", "tolerance"] },
  { kind: DetectorKind.MISSING, name: "missing", finds: "readings do not come any more", threshold: 1, uses: ["window"] },
  { kind: DetectorKind.STATISTICS, name: "statistics", finds: "mean, deviation, extremes and slope of a window", threshold: 0, uses: ["window"] },
  { kind: DetectorKind.MODULE, name: "module", finds: "what a logic of your own finds", threshold: 1, uses: ["logic"] },
];

/** The kind of a detector; of an unknown one, which a newer node may have, a kind without settings. */
export function kindOf(kind: DetectorKind): Kind {
  return kinds.find((k) => k.kind === kind) ?? { kind, name: String(kind), finds: "", threshold: 0, uses: [] };
}

/** The beginning of the names of a detector's properties, as the node makes it. */
export function outputOf(d: Pick<Detector, "output" | "property" | "kind"> & Partial<Pick<Detector, "logic">>): string {
  if (d.output) return d.output;
  return `${wordOf(d.property)}_${d.logic ? wordOf(d.logic.slice(d.logic.indexOf("/") + 1)) : kindOf(d.kind).name}`;
}

function wordOf(name: string): string {
  const word = name.replace(/[^A-Za-z0-9_]/gu, "_");
  return `${/^[0-9]/.test(word) ? "_" : ""}${word}`;
}

/** Whose readings are judged, in words. */
export function whose(d: Detector): string {
  const of = d.of;
  const words = [
    ...(of?.twins ?? []),
    ...(["model", "zone", "system", "driver", "interface"] as const).flatMap((f) => (of?.[f] ? [`${f} ${of[f]}`] : [])),
    ...Object.entries(of?.labels ?? {}).map(([k, v]) => `${k}=${v}`),
  ];
  return words.length ? words.join(", ") : "all twins that have it";
}
