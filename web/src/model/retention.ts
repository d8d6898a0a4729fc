import type { Duration } from "@bufbuild/protobuf/wkt";

import type { QuotaUse } from "../gen/pollux/v1/history_pb";
import { bytes, count } from "./value";

/** Per cent of its quota that something takes. */
export const used = (u: QuotaUse) => (u.limit > 0n ? Math.floor((Number(u.used) / Number(u.limit)) * 100) : 0);

/** A number of something, bytes in a unit for eyes. */
export function amount(resource: string, n: bigint): string {
  return resource.endsWith("_bytes") ? bytes(n) : count(n);
}

/** A span in its largest whole unit. */
export function span(d: Duration | undefined): string {
  const seconds = Number(d?.seconds ?? 0n);
  for (const [of, unit] of [[86_400, "d"], [3600, "h"], [60, "min"]] as const) if (seconds >= of && seconds % of === 0) return `${seconds / of} ${unit}`;
  return `${seconds} s`;
}

/** Counts by name, sorted. */
export const counts = (of: Record<string, bigint>) =>
  Object.entries(of)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, n]) => `${name} ${n}`)
    .join(", ");
