import { Select } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useState } from "react";

import { history } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { dateTime, millis } from "../../model/value";
import { JournalTable } from "./JournalTable";

/** How many entries of each twin are asked for. */
const most = 100;

const kinds = ["event", "value", "quality", "desired", "command"];

/** What happened to the twins in that time, and is no number: events, texts, commands. The newest first. */
export function Journal({ twins, from, to }: { twins: string[]; from: number; to: number }) {
  const [kind, setKind] = useState<string | null>(null);
  const { data, error } = useQuery({
    queryKey: ["journal", twins, from, to, kind],
    queryFn: async ({ signal }) => {
      const bounds = { start: timestampFromMs(from), end: timestampFromMs(to) };
      const pages = await Promise.all(twins.map((twin) => history.listJournal({ twin, kinds: kind ? [kind] : [], ...bounds, pageSize: most }, { signal })));
      const all = pages.flatMap((p) => p.entries).sort((a, b) => (millis(b.time) ?? 0) - (millis(a.time) ?? 0));
      return { entries: all.slice(0, 200), more: all.length > 200 || pages.some((p) => p.nextPageToken) };
    },
    placeholderData: keepPreviousData,
  });
  const entries = data?.entries ?? [];
  return (
    <section className="panel" aria-label="Journal">
      <h2>
        What else happened
        <span className="panel-tools">
          <Select aria-label="Kind" placeholder="every kind" clearable data={kinds} value={kind} onChange={setKind} w={130} />
        </span>
      </h2>
      <Trouble error={error} inside />
      {data && entries.length === 0 && <p className="muted pad">Nothing in this time: no event, no text, no command.</p>}
      {entries.length > 0 && (
        <JournalTable entries={entries} label="Journal" time={dateTime} />
      )}
      {data?.more && <p className="muted pad">The newest of them; a shorter time shows the others.</p>}
    </section>
  );
}
