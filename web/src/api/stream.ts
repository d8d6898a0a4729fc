import { Code, ConnectError } from "@connectrpc/connect";

import { explain, passing } from "./errors";
import { report, type Link } from "./link";

export interface StreamOptions<T> {
  /** Names the stream in the page's link state. */
  name: string;
  /** Opens the stream; it ends when the signal fires. */
  open: (signal: AbortSignal) => AsyncIterable<T>;
  message: (message: T) => void;
  /** Called before each try; `again` is false the first time. Drop what the new stream will repeat. */
  start?: (again: boolean) => void;
  state?: (link: Link) => void;
  /** The stream may say nothing for long after it opened: it counts as live from the start, until it fails. */
  quiet?: boolean;
  /** Silence after which the stream counts as lost, in milliseconds; 0: it may be silent for ever. */
  idle?: number;
}

const firstWait = 500;
const longestWait = 15_000;

/** Wait before try `n` (from 1): doubled each time, bounded, and spread so that many pages do not return at once. */
export function backoff(n: number, random = Math.random()): number {
  return Math.min(longestWait, firstWait * 2 ** (n - 1)) * (0.7 + 0.6 * random);
}

/** Keeps a stream open until the returned function is called: it reconnects by itself with back-off. */
export function keepStream<T>(options: StreamOptions<T>): () => void {
  const ended = new AbortController();
  void run(options, ended.signal);
  return () => {
    ended.abort();
    report(options.name, null);
  };
}

async function run<T>(o: StreamOptions<T>, ended: AbortSignal) {
  const tell = (link: Link) => {
    if (ended.aborted) return;
    report(o.name, link);
    o.state?.(link);
  };
  let failures = 0;
  for (let again = false; !ended.aborted; again = true) {
    if (failures === 0) tell({ state: o.quiet ? "live" : "connecting" });
    let error: unknown;
    try {
      o.start?.(again);
      await once(o, ended, () => {
        failures = 0;
        tell({ state: "live" });
      });
      error = new ConnectError("the node closed the stream", Code.Unavailable);
    } catch (e) {
      error = e;
    }
    if (ended.aborted) return;
    if (!passing(error)) {
      tell({ state: "failed", error: explain(error) });
      return;
    }
    failures++;
    const wait = backoff(failures);
    // A stream that ends and comes back at once is no news.
    if (failures > 1) tell({ state: "offline", error: explain(error), retryAt: Date.now() + wait });
    await pause(wait, ended);
  }
}

/** Runs one try of the stream; returns when it ends, throws when it fails or falls silent. */
async function once<T>(o: StreamOptions<T>, ended: AbortSignal, alive: () => void) {
  const own = new AbortController();
  const end = () => own.abort();
  ended.addEventListener("abort", end);
  let last = Date.now();
  let silent = false;
  const timer = o.idle
    ? setInterval(() => {
        if (Date.now() - last <= (o.idle ?? 0)) return;
        silent = true;
        own.abort();
      }, 1000)
    : undefined;
  try {
    let first = true;
    for await (const message of o.open(own.signal)) {
      last = Date.now();
      if (first) alive();
      first = false;
      o.message(message);
    }
  } catch (error) {
    if (silent) throw new ConnectError("the stream fell silent", Code.Unavailable);
    throw error;
  } finally {
    clearInterval(timer);
    ended.removeEventListener("abort", end);
    own.abort();
  }
}

/** Waits, but not past the end, and not when the browser says that the network is back. */
function pause(ms: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      ended.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    window.addEventListener("online", done);
    ended.addEventListener("abort", done);
  });
}
