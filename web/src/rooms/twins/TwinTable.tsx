import { Loader } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, type KeyboardEvent, type ReactNode } from "react";
import { useLocation } from "wouter";

import type { Twin } from "../../gen/pollux/v1/twin_pb";
import type { LiveStates } from "../../live/store";
import { useModels } from "../../model/catalog";
import { twinPath } from "../../model/id";
import { TwinRow } from "./TwinRow";
import { useWatch } from "./useTwins";

interface Props {
  list: Twin[];
  states: LiveStates;
  /** There are more twins than loaded. */
  more: boolean;
  loading: boolean;
  onMore: () => void;
  empty: ReactNode;
}

const rowHeight = 36;

/** The table draws only the rows in sight and watches only the twins around them. */
export function TwinTable({ list, states, more, loading, onMore, empty }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const [, go] = useLocation();
  const modelOf = useModels();
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualizer is read here and nowhere memoised
  const rows = useVirtualizer({
    count: list.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    getItemKey: (i) => list[i]?.id ?? i,
    overscan: 12,
  });
  const items = rows.getVirtualItems();
  const first = items[0]?.index ?? 0;
  const last = items.at(-1)?.index ?? 0;
  useWatch(list, first, last, states);
  useEffect(() => {
    if (more && !loading && last >= list.length - 100) onMore();
  }, [more, loading, last, list.length, onMore]);

  const focus = (index: number) => {
    const target = Math.max(0, Math.min(list.length - 1, index));
    rows.scrollToIndex(target);
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-index="${target}"] a`)?.focus());
  };
  const press = (event: KeyboardEvent) => {
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (!row) return;
    const index = Number(row.dataset.index);
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 400) / rowHeight) - 1);
    const to = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: list.length - 1 }[
      event.key
    ];
    if (to === undefined) return;
    event.preventDefault();
    focus(to);
  };

  return (
    <div className="twin-table" role="table" aria-label="Twins" aria-rowcount={more ? -1 : list.length + 1} aria-busy={loading}>
      <div className="twin-row twin-row-head" role="row">
        <span role="columnheader">Twin</span>
        <span role="columnheader">Status</span>
        <span role="columnheader">State</span>
        <span role="columnheader">Driver or model</span>
        <span role="columnheader">Zone</span>
        <span role="columnheader">Last seen</span>
      </div>
      <div className="twin-scroll" role="rowgroup" ref={scroller} onKeyDown={press}>
        {list.length === 0 && (
          <div className="empty">{loading ? <Loader size="sm" aria-label="Loading" /> : empty}</div>
        )}
        <div style={{ height: rows.getTotalSize(), position: "relative" }} role="presentation">
          {items.map((item) => {
            const twin = list[item.index];
            if (!twin) return null;
            return (
              <TwinRow
                key={item.key}
                index={item.index}
                top={item.start}
                twin={twin}
                model={modelOf(twin)}
                states={states}
                onOpen={() => go(twinPath(twin.id))}
              />
            );
          })}
        </div>
      </div>
      <footer className="table-foot" aria-live="off">
        {list.length}
        {more ? "+" : ""} shown
      </footer>
    </div>
  );
}
