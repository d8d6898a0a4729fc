import { Select, TagsInput, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { useState, type RefObject } from "react";

import { useDrivers, useModelRecords, useZones } from "../../model/catalog";
import { kindOf, kinds, valueOf } from "../../model/kind";
import { SearchIcon } from "../../shell/icons";
import type { Filter, Status } from "./filter";

const statuses: { value: Status; label: string }[] = [
  { value: "all", label: "Any status" },
  { value: "connected", label: "Connected" },
  { value: "connecting", label: "Connecting" },
  { value: "disconnected", label: "Disconnected" },
  { value: "stopped", label: "Stopped" },
  { value: "faulty", label: "With a fault" },
];

interface Props {
  filter: Filter;
  change: (part: Partial<Filter>) => void;
  search: RefObject<HTMLInputElement | null>;
}

export function FilterBar({ filter, change, search }: Props) {
  const { data: drivers } = useDrivers();
  const { data: models } = useModelRecords();
  const { data: zones } = useZones();
  const [text, setText] = useState(filter.text);
  const [seen, setSeen] = useState(filter.text);
  if (seen !== filter.text) {
    // The address changed by other hands: a link, or "clear".
    setSeen(filter.text);
    setText(filter.text);
  }
  const send = useDebouncedCallback((value: string) => change({ text: value }), 200);

  return (
    <div className="filters" role="search" aria-label="Filter twins">
      <TextInput
        ref={search}
        className="filter-text"
        aria-label="Filter by id"
        placeholder="Filter by id"
        leftSection={<SearchIcon size={14} />}
        value={text}
        onChange={(e) => {
          setText(e.currentTarget.value);
          send(e.currentTarget.value);
        }}
        onKeyDown={(e) => {
          if (e.key !== "Escape") return;
          setText("");
          change({ text: "" });
          e.currentTarget.blur();
        }}
      />
      <Select
        aria-label="Filter by driver or model"
        placeholder="Any driver or model"
        clearable
        searchable
        limit={200}
        data={kinds(drivers ?? [], models ?? [])}
        value={valueOf(filter) || null}
        onChange={(value) => change(kindOf(value ?? ""))}
      />
      <Select
        aria-label="Filter by zone"
        placeholder="Any zone"
        clearable
        searchable
        data={(zones ?? []).map((z) => ({ value: z.id, label: z.title || z.id }))}
        value={filter.zone || null}
        onChange={(zone) => change({ zone: zone ?? "" })}
      />
      <Select
        aria-label="Filter by status"
        data={statuses}
        value={filter.status}
        allowDeselect={false}
        onChange={(status) => change({ status: (status as Status | null) ?? "all" })}
      />
      <TagsInput
        className="filter-labels"
        aria-label="Filter by label"
        placeholder={filter.labels.length ? "" : "label=value"}
        value={filter.labels}
        onChange={(labels) => change({ labels: labels.filter((l) => l.indexOf("=") > 0) })}
      />
    </div>
  );
}
