import type { Driver } from "../gen/pollux/v1/driver_pb";

/** The order of semantic versions: numbers by value, a pre-release before its release. */
export function compareVersions(a: string, b: string): number {
  const [coreA = "", preA] = a.split(/-(.*)/s);
  const [coreB = "", preB] = b.split(/-(.*)/s);
  const core = compareParts(coreA.split("."), coreB.split("."));
  if (core !== 0) return core;
  if (preA === undefined || preB === undefined) return Number(preA === undefined) - Number(preB === undefined);
  return compareParts(preA.split("."), preB.split("."));
}

function compareParts(a: string[], b: string[]): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const x = a[i];
    const y = b[i];
    if (x === undefined || y === undefined) return x === undefined ? -1 : 1;
    const numbers = /^\d+$/.test(x) && /^\d+$/.test(y);
    const order = numbers ? Number(x) - Number(y) : x < y ? -1 : x > y ? 1 : 0;
    if (order !== 0) return order;
  }
  return 0;
}

export interface DriverGroup {
  name: string;
  /** Newest first. */
  versions: Driver[];
  newest: Driver;
}

/** Drivers by name, versions newest first. */
export function group(list: Driver[]): DriverGroup[] {
  const byName = new Map<string, Driver[]>();
  for (const driver of list) byName.set(driver.name, [...(byName.get(driver.name) ?? []), driver]);
  return [...byName]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, versions]) => {
      versions.sort((a, b) => compareVersions(b.version, a.version));
      return { name, versions, newest: versions[0] as Driver };
    });
}
