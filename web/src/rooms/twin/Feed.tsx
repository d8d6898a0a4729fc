import { ActionIcon, SegmentedControl, Tooltip } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { history } from "../../api/client";
import { useRing, type Ring } from "../../live/ring";
import { dateTime, millis, moment } from "../../model/value";
import { TrashIcon } from "../../shell/icons";
import { told } from "../history/told";
import { useFollow } from "./useFollow";
import type { FeedLine } from "./useTwinWatch";

type Which = "all" | "events" | "log";

/** What is shown of the time before the page was opened: the journal has no log lines. */
const before = ["event", "desired", "command", "quality"];

/** The twin's last entries of the journal, the newest last, as lines of the feed. */
function useBefore(id: string): FeedLine[] {
  const { data } = useQuery({
    queryKey: ["twin before", id],
    queryFn: ({ signal }) => history.listJournal({ twin: id, kinds: before, pageSize: 20 }, { signal }),
    staleTime: Infinity,
    gcTime: 0,
  });
  return (data?.entries ?? [])
    .map((e): FeedLine => ({ time: millis(e.time) ?? 0, kind: e.kind === "event" ? "event" : "info", name: e.kind === "event" ? e.name : `${e.kind} ${e.name}`, text: told(e).text }))
    .reverse();
}

/** Events and log lines of the twin, newest last: the journal's last ones, and all since the page was opened. */
export function Feed({ id, feed }: { id: string; feed: Ring<FeedLine> }) {
  const live = useRing(feed);
  const past = useBefore(id);
  const [which, setWhich] = useState<Which>("all");
  const [cleared, setCleared] = useState(false);
  const first = live[0]?.entry.time ?? Infinity;
  const lines = [...(cleared ? [] : past.filter((l) => l.time < first)).map((entry, i) => ({ n: i - past.length, entry })), ...live];
  const shown = lines.filter(({ entry }) => which === "all" || (entry.kind === "event") === (which === "events"));
  const clear = () => {
    feed.clear();
    setCleared(true);
  };
  const [box, onScroll] = useFollow(shown.length ? shown[shown.length - 1]?.n : undefined);
  return (
    <section className="panel feed" aria-label="Events and log">
      <h2>
        Events and log
        <span className="panel-tools">
          <SegmentedControl
            aria-label="Show"
            size="xs"
            data={[
              { value: "all", label: "All" },
              { value: "events", label: "Events" },
              { value: "log", label: "Log" },
            ]}
            value={which}
            onChange={(v) => setWhich(v as Which)}
          />
          <Tooltip label="Clear">
            <ActionIcon variant="subtle" color="gray" aria-label="Clear events and log" onClick={clear}>
              <TrashIcon />
            </ActionIcon>
          </Tooltip>
        </span>
      </h2>
      <div className="feed-lines" role="log" ref={box} onScroll={onScroll} tabIndex={0} aria-label="Lines">
        {shown.length === 0 && <p className="muted pad">Nothing yet.</p>}
        {shown.map(({ n, entry }) => (
          <div key={n} className="feed-line" data-kind={entry.kind}>
            <time title={dateTime(entry.time)}>{moment(entry.time)}</time>
            <b>{entry.name}</b>
            <span>{entry.text}</span>
          </div>
        ))}
      </div>
    </section>
  );
}
