import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";

import { cluster, records } from "../api/client";
import { keepStream } from "../api/stream";

export type Kind =
  | "rule"
  | "schedule"
  | "alarm"
  | "detector"
  | "notifier"
  | "project"
  | "alias"
  | "twin"
  | "model"
  | "zone"
  | "system"
  | "relation"
  | "topic"
  | "route"
  | "sink"
  | "source"
  | "simulation";

/**
 * Reads everything of a kind again when one of its records is made, changed or deleted, by whomever: the queries whose keys begin with a
 * word of `stale`, words apart by spaces, at most once per `every` milliseconds.
 */
export function useChanges(kind: Kind, stale: string = kind, every = 200) {
  const client = useQueryClient();
  useEffect(() => {
    let after = 0n;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const reload = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        for (const word of stale.split(" ")) void client.invalidateQueries({ queryKey: [word] });
      }, every);
    };
    const stop = keepStream({
      name: "records",
      quiet: true,
      open: async function* (signal) {
        // What there is comes by the list; the stream starts at the newest revision.
        if (after === 0n) after = (await cluster.getStatus({}, { signal })).revision;
        yield* records.watch({ kind, afterRevision: after }, { signal });
      },
      message: (change) => {
        if (change.revision > after) after = change.revision;
        if (!change.synced) reload();
      },
      start: (again) => {
        if (!again) return;
        // Anything may have happened while the stream was gone.
        after = 0n;
        reload();
      },
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [client, kind, stale, every]);
}
