import { Button, Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { twins } from "../../api/client";
import { TwinInput } from "../../frame/TwinInput";
import { full } from "../../model/id";
import { chartable, plain } from "../../model/value";
import type { SeriesId } from "./series";

/** Chooses a twin, and one of its properties that has numbers. */
export function Add({ onAdd }: { onAdd: (series: SeriesId) => void }) {
  const [twin, setTwin] = useState("");
  const [property, setProperty] = useState("");
  const { data } = useQuery({
    queryKey: ["properties of", twin],
    queryFn: async ({ signal }) => {
      const answer = await twins.getTwin({ id: full(twin) }, { signal });
      const all = Object.entries(answer.twin?.state?.properties ?? {});
      return all.filter(([, p]) => chartable(plain(p.value)) !== undefined).map(([name]) => name).sort();
    },
    enabled: twin !== "",
    retry: false,
  });
  const names = data ?? [];
  const chosen = property || (names.length === 1 ? (names[0] ?? "") : "");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!chosen) return;
    onAdd({ twin: full(twin), property: chosen });
    setProperty("");
  };
  return (
    <form className="history-add" onSubmit={submit} aria-label="Add a series">
      <TwinInput
        label="Twin"
        project=""
        value={twin}
        onChange={(v) => {
          setTwin(v);
          setProperty("");
        }}
      />
      <Select aria-label="Property" placeholder={names.length || !twin ? "property" : "no number yet"} searchable data={names} value={chosen || null} onChange={(v) => setProperty(v ?? "")} />
      <Button type="submit" disabled={!twin || !chosen}>
        Add
      </Button>
    </form>
  );
}
