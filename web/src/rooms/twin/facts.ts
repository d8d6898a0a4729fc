import { Progress, type DerivedState, type Desired, type TwinState, type TwinSubscription } from "../../gen/pollux/v1/twin_pb";
import { twinPath } from "../../model/id";
import { count } from "../../model/value";

/** What a wish waits for: the watch does not tell, so it is taken from the last read, if that was of the same wish. */
export function waitsFor(live: Desired | undefined, read: Desired | undefined): string {
  if (!live || (live.progress !== Progress.ASKED && live.progress !== Progress.SENT)) return "";
  return live.waitsFor || (read?.revision === live.revision ? read.waitsFor : "");
}

const quotas: Record<string, string> = {
  calls: "calls of the host",
  sends: "sends",
  logs: "log lines",
  events: "events",
  state: "times that values had to wait",
};

/** What a driver asked beyond its quotas, as a sentence's end; empty where nothing was refused. */
export function overQuota(state: Pick<TwinState, "overQuota"> | undefined): string {
  return Object.entries(state?.overQuota ?? {})
    .filter(([, n]) => n > 0n)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, n]) => `${count(n)} ${quotas[name] ?? name}`)
    .join(", ");
}

/** A subscription as its driver names it, and the page of the twin where that is known. */
export function followed(s: TwinSubscription, project: string): { name: string; path?: string } {
  const bare = (id: string) => (id.startsWith(`${project}/`) ? id.slice(project.length + 1) : id);
  if (s.system) return { name: `${s.twin} in ${bare(s.system)}` };
  return { name: bare(s.twin), path: twinPath(s.twin.includes("/") ? s.twin : `${project}/${s.twin}`) };
}

/** What a computed property is computed by, and why it has no good value; `good` says whether it has one. */
export function derivation(state: DerivedState | undefined, written: string | undefined, good: boolean): { formula: string; why: string } | undefined {
  const formula = state?.expression || written;
  if (!formula) return undefined;
  if (state?.error || good) return { formula, why: state?.error ?? "" };
  return { formula, why: !state ? "the twin does not compute now" : state.evaluations === 0n ? "not computed yet" : "" };
}
