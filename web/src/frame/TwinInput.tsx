import { Autocomplete } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";

import { twins } from "../api/client";
import { split } from "../model/id";

interface TwinInputProps {
  label: string;
  /** Only of this one; empty: of every project that the caller may read. */
  project: string;
  value: string;
  onChange: (value: string) => void;
  visible?: boolean;
  description?: string;
}

/** A twin's id, with those offered whose id has what is typed in it. */
export function TwinInput({ label, project, value, onChange, visible, description }: TwinInputProps) {
  const [text] = useDebouncedValue(split(value).name, 200);
  const { data } = useQuery({
    queryKey: ["twins", "offered", project, text],
    queryFn: async ({ signal }) => (await twins.listTwins({ filter: { project, text }, pageSize: 20 }, { signal })).twins.map((t) => t.id),
    staleTime: 10_000,
  });
  return <Autocomplete label={visible ? label : undefined} description={description} aria-label={label} placeholder={project ? `${project}/…` : "twin"} data={data ?? []} filter={({ options }) => options} value={value} onChange={onChange} />;
}
