import { ActionIcon, SegmentedControl, Tooltip } from "@mantine/core";
import { useState } from "react";

import { useRing, type Ring } from "../../live/ring";
import { dateTime, timeOfDay } from "../../model/value";
import { TrashIcon } from "../../shell/icons";
import { useFollow } from "./useFollow";
import type { FeedLine } from "./useTwinWatch";

type Which = "all" | "events" | "log";

/** Events and log lines of the twin since the page was opened, newest last. */
export function Feed({ feed }: { feed: Ring<FeedLine> }) {
  const lines = useRing(feed);
  const [which, setWhich] = useState<Which>("all");
  const shown = lines.filter(({ entry }) => which === "all" || (entry.kind === "event") === (which === "events"));
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
            <ActionIcon variant="subtle" color="gray" aria-label="Clear events and log" onClick={() => feed.clear()}>
              <TrashIcon />
            </ActionIcon>
          </Tooltip>
        </span>
      </h2>
      <div className="feed-lines" role="log" ref={box} onScroll={onScroll} tabIndex={0} aria-label="Lines">
        {shown.length === 0 && <p className="muted pad">Nothing since you opened this page.</p>}
        {shown.map(({ n, entry }) => (
          <div key={n} className="feed-line" data-kind={entry.kind}>
            <time title={dateTime(entry.time)}>{timeOfDay(entry.time)}</time>
            <b>{entry.name}</b>
            <span>{entry.text}</span>
          </div>
        ))}
      </div>
    </section>
  );
}
