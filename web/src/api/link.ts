import { useSyncExternalStore } from "react";

/** How a stream stands. `failed` is final: the request itself was refused. */
export type LinkState = "connecting" | "live" | "offline" | "failed";

export interface Link {
  state: LinkState;
  /** Why it is offline or failed. */
  error?: string;
  /** When the next try starts, in milliseconds since the epoch. */
  retryAt?: number;
}

const links = new Map<string, Link>();
const listeners = new Set<() => void>();
let overall: Link = { state: "connecting" };

/** Tells the page how the stream of that name stands; null: the stream is no longer wanted. */
export function report(name: string, link: Link | null) {
  if (link) links.set(name, link);
  else links.delete(name);
  const all = [...links.values()];
  const next =
    all.find((l) => l.state === "offline") ?? all.find((l) => l.state === "connecting") ?? all[0] ?? { state: "live" as const };
  if (next.state === overall.state && next.retryAt === overall.retryAt && next.error === overall.error) return;
  overall = next;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The worst of the page's streams: one lost stream means that what is shown may be old. */
export function useLink(): Link {
  return useSyncExternalStore(subscribe, () => overall);
}
