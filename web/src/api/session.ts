import { useSyncExternalStore } from "react";

/** Who the page speaks as: not yet known, signed in (by key or cookie), or asked to sign in. */
export type Session = "unknown" | "in" | "out";

const slot = "pollux.key";

let session: Session = "unknown";
const listeners = new Set<() => void>();

function set(next: Session) {
  if (next === session) return;
  session = next;
  for (const listener of listeners) listener();
}

/** The API key of this tab, or null where the cookie speaks. It goes when the tab closes. */
export function key(): string | null {
  return sessionStorage.getItem(slot);
}

export function signedIn() {
  set("in");
}

export function keepKey(value: string) {
  sessionStorage.setItem(slot, value);
}

export function dropKey() {
  sessionStorage.removeItem(slot);
}

/** The node no longer knows us: forget the key and show the sign-in page. */
export function signedOut() {
  dropKey();
  set("out");
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useSession(): Session {
  return useSyncExternalStore(subscribe, () => session);
}
