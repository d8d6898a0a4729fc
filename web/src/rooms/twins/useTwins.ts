import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";

import { twins } from "../../api/client";
import { keepStream } from "../../api/stream";
import type { Twin } from "../../gen/pollux/v1/twin_pb";
import { LiveStates } from "../../live/store";
import { message, type Filter } from "./filter";

const pageSize = 500;
/** Twins watched at once: what is on the screen and some around it. The API takes 1,000. */
const block = 100;

/** The twins that match, in order of their ids, loaded page by page as somebody scrolls. */
export function useTwins(filter: Filter, states: LiveStates) {
  const liveFilter = filter.status !== "all";
  const query = useInfiniteQuery({
    queryKey: ["twins", filter],
    initialPageParam: "",
    queryFn: async ({ pageParam, signal }) => {
      const page = await twins.listTwins({ filter: message(filter), pageSize, pageToken: pageParam, state: true }, { signal });
      for (const twin of page.twins) states.seed(twin.id, twin.state);
      return page;
    },
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    // Who matches by live state changes without a record's change.
    refetchInterval: liveFilter ? 5000 : false,
  });
  const list = useMemo<Twin[]>(() => query.data?.pages.flatMap((page) => page.twins) ?? [], [query.data]);
  return { ...query, list };
}

/** Watches the twins between two rows, one stream for all of them; the stream changes when the block does. */
export function useWatch(list: Twin[], first: number, last: number, states: LiveStates) {
  const from = Math.max(0, (Math.floor(first / block) - 1) * block);
  const to = Math.min(list.length, (Math.floor(last / block) + 2) * block);
  const ids = useMemo(() => list.slice(from, to).map((twin) => twin.id), [list, from, to]);
  // The same ids in a new array are no reason to open a new stream.
  const wanted = ids.join("\n");
  useEffect(() => {
    if (!wanted) return;
    let stop: (() => void) | undefined;
    const timer = setTimeout(() => {
      stop = keepStream({
        name: "twins",
        idle: 25_000,
        open: (signal) => twins.watchTwins({ filter: { ids: wanted.split("\n") } }, { signal }),
        message: (m) => states.apply(m),
      });
    }, 150);
    return () => {
      clearTimeout(timer);
      stop?.();
    };
  }, [wanted, states]);
}
