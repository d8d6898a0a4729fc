import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { ingest } from "../../api/client";
import type { IngestCount } from "../../gen/pollux/v1/ingest_pb";
import { kept, type Look } from "./rates";

/** The counters, each 2 s, and the looks at them that the rates are made of. */
export function useIngest() {
  const [looks, setLooks] = useState<Look[]>([]);
  const query = useQuery({
    queryKey: ["ingest status"],
    queryFn: ({ signal }) => ingest.getIngestStatus({}, { signal }),
    refetchInterval: 2000,
  });
  const time = query.dataUpdatedAt;
  if (query.data && time !== looks.at(-1)?.time) {
    setLooks((before) => [...before, { time, counts: query.data.counts as IngestCount[] }].slice(-kept));
  }
  return { ...query, looks };
}
