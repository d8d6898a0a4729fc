import { useSyncExternalStore } from "react";

/** The newest `limit` entries of a stream, with a number each, told to the page at most once per turn. */
export class Ring<T> {
  private entries: { n: number; entry: T }[] = [];
  private next = 0;
  private pending: { n: number; entry: T }[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly limit: number,
    private readonly every = 100,
  ) {}

  push(entry: T) {
    this.pending.push({ n: this.next++, entry });
    if (this.pending.length > this.limit) this.pending.shift();
    this.timer ??= setTimeout(() => this.flush(), this.every);
  }

  clear() {
    this.entries = [];
    this.pending = [];
    this.tell();
  }

  /** Stable until the next turn. */
  readonly list = (): readonly { n: number; entry: T }[] => this.entries;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private flush() {
    this.timer = undefined;
    this.entries = [...this.entries, ...this.pending].slice(-this.limit);
    this.pending = [];
    this.tell();
  }

  private tell() {
    for (const listener of [...this.listeners]) listener();
  }
}

export function useRing<T>(ring: Ring<T>) {
  return useSyncExternalStore(ring.subscribe, ring.list);
}
