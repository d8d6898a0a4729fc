import { Autocomplete, Button } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link } from "wouter";

import { cluster, twins } from "../../api/client";
import { explain } from "../../api/errors";
import type { Placement } from "../../gen/pollux/v1/cluster_pb";
import { full, twinPath } from "../../model/id";
import { SearchIcon } from "../../shell/icons";
import type { Colours } from "./colours";
import { placeText } from "./sentences";
import { Swatch } from "./Swatch";

interface Found {
  placement: Placement | undefined;
  /** Whether there is such a twin; its slot is known all the same. */
  exists: boolean;
}

/** Where a twin is, asked again while somebody looks. */
export function useFound(id: string) {
  return useQuery({
    queryKey: ["placement", id],
    queryFn: async ({ signal }): Promise<Found> => {
      const [{ placement }, { twins: list }] = await Promise.all([
        cluster.getPlacement({ id }, { signal }),
        twins.listTwins({ filter: { ids: [id] }, pageSize: 1 }, { signal }),
      ]);
      return { placement, exists: list.length > 0 };
    },
    enabled: id !== "",
    refetchInterval: 1000,
  });
}

interface Props {
  id: string;
  found: ReturnType<typeof useFound>;
  colours: Colours;
  onFind: (id: string) => void;
}

/** Asks for a twin, and says where it lives. */
export function FindTwin({ id, found, colours, onFind }: Props) {
  const [text, setText] = useState(id);
  const [seen, setSeen] = useState(id);
  if (seen !== id) {
    setSeen(id);
    setText(id);
  }
  const [part] = useDebouncedValue(text.trim(), 200);
  const { data: known } = useQuery({
    queryKey: ["twins", "like", part],
    queryFn: async ({ signal }) => (await twins.listTwins({ filter: { text: part }, pageSize: 8 }, { signal })).twins.map((t) => t.id),
    enabled: part !== "" && part !== id,
    placeholderData: keepPreviousData,
  });
  const find = (word: string) => onFind(word.trim() && full(word.trim()));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    find(text);
  };
  return (
    <form className="find" role="search" aria-label="Find a twin" onSubmit={submit}>
      <Autocomplete
        aria-label="Twin"
        placeholder="Where does a twin live?"
        leftSection={<SearchIcon size={14} />}
        data={known ?? []}
        filter={({ options }) => options}
        value={text}
        onChange={setText}
        onOptionSubmit={find}
        clearable
        onClear={() => onFind("")}
      />
      <Button type="submit" variant="default">
        Find
      </Button>
      {id && <Answer id={id} found={found} colours={colours} />}
    </form>
  );
}

function Answer({ id, found: { data, error }, colours }: Pick<Props, "id" | "found" | "colours">) {
  const p = data?.placement;
  if (error) {
    return (
      <p className="bad" role="alert">
        {explain(error)}
      </p>
    );
  }
  if (!p) return null;
  return (
    <p className="found" role="status">
      {data.exists ? <Link href={twinPath(id)}>{id}</Link> : <b>There is no twin {id}; it would live</b>} {data.exists && "lives "}
      {p.node && <Swatch colours={colours} id={p.node} />}
      <b>{placeText(p)}</b>
      <span className="muted">
        slot {p.slot}, since owner no. {String(p.since)}
        {data.exists && (p.active ? ", active" : ", not in memory")}
      </span>
    </p>
  );
}
