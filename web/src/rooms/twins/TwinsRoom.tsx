import "./twins.css";

import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useRef, useState } from "react";

import { cluster } from "../../api/client";
import { explain } from "../../api/errors";
import { useChanges } from "../../live/changes";
import { LiveStates } from "../../live/store";
import { count } from "../../model/value";
import { PlusIcon } from "../../shell/icons";
import { useShortcuts } from "../../shell/shortcuts";
import { CreateTwin } from "./CreateTwin";
import { isEmpty, useFilter, type Status } from "./filter";
import { FilterBar } from "./FilterBar";
import { TwinTable } from "./TwinTable";
import { useTwins } from "./useTwins";

/** The first room: every twin, live. */
export function TwinsRoom() {
  const [filter, change] = useFilter();
  const [states] = useState(() => new LiveStates());
  const { list, hasNextPage, fetchNextPage, isFetchingNextPage, isPending, error } = useTwins(filter, states);
  useChanges("twin", "twins status", 800);
  useChanges("model", "models", 800);
  const [creating, setCreating] = useState(false);
  const search = useRef<HTMLInputElement>(null);
  useShortcuts({ "/": () => search.current?.focus(), c: () => setCreating(true) });

  return (
    <>
      <header className="room-head">
        <h1>Twins</h1>
        <Counts status={filter.status} onPick={(status) => change({ status })} />
        <Button leftSection={<PlusIcon />} onClick={() => setCreating(true)} ml="auto">
          Create twin
        </Button>
      </header>
      <FilterBar filter={filter} change={change} search={search} />
      {error && (
        <p className="trouble" role="alert">
          {explain(error)}
        </p>
      )}
      <TwinTable
        list={list}
        states={states}
        more={hasNextPage}
        loading={isPending || isFetchingNextPage}
        onMore={() => void fetchNextPage()}
        empty={
          isEmpty(filter) ? (
            <>
              <b>No twins yet.</b>
              <span>A twin is one device with a state of its own, and a driver that speaks with it or a model that reads its messages. Add one of these, then create the first twin.</span>
              <Button variant="default" onClick={() => setCreating(true)}>
                Create twin
              </Button>
            </>
          ) : (
            <>
              <b>No twin matches.</b>
              <Button
                variant="default"
                onClick={() => change({ text: "", driver: "", model: "", zone: "", labels: [], status: "all" })}
              >
                Clear the filter
              </Button>
            </>
          )
        }
      />
      <CreateTwin opened={creating} onClose={() => setCreating(false)} />
    </>
  );
}

/** How many twins the whole cluster has, by status; each count is a filter. */
function Counts({ status, onPick }: { status: Status; onPick: (status: Status) => void }) {
  const { data } = useQuery({
    queryKey: ["status"],
    queryFn: ({ signal }) => cluster.getStatus({}, { signal }),
    refetchInterval: 3000,
  });
  if (!data) return null;
  const counts: [Status, string, bigint][] = [
    ["all", "all", data.twins],
    ["connected", "connected", data.connectedTwins],
    ["faulty", "with a fault", data.faultyTwins],
  ];
  return (
    <div className="counts" role="group" aria-label="Twins by status">
      {counts.map(([key, label, n]) => (
        <button key={key} type="button" data-status={key} aria-pressed={status === key} onClick={() => onPick(key)}>
          <b>{count(n)}</b> {label}
        </button>
      ))}
    </div>
  );
}
