import { Select } from "@mantine/core";

import { group, useDrivers, useModelRecords } from "../../model/catalog";
import { split } from "../../model/id";

/** What a twin is of: `model ID` or `driver NAME`. */
export function KindSelect({ project, value, onChange }: { project: string; value: string; onChange: (value: string) => void }) {
  const { data: models } = useModelRecords();
  const { data: drivers } = useDrivers();
  const ofModel = (models ?? []).filter((m) => split(m.id).project === project);
  const names = group(drivers ?? []).map((g) => g.name);
  const known = new Set([...ofModel.map((m) => `model ${m.id}`), ...names.map((n) => `driver ${n}`)]);
  return (
    <Select
      label="Model or driver"
      description="what reads its messages"
      withAsterisk
      searchable
      placeholder={known.size ? "Choose" : "None yet: make one in Models"}
      data={[
        { group: "Models", items: ofModel.map((m) => ({ value: `model ${m.id}`, label: m.title ? `${m.title} (${split(m.id).name})` : split(m.id).name })) },
        { group: "Drivers", items: [...names.map((n) => ({ value: `driver ${n}`, label: n })), ...(value && !known.has(value) ? [{ value, label: value }] : [])] },
      ]}
      value={value || null}
      onChange={(v) => onChange(v ?? "")}
    />
  );
}

/** `key=value` each, as a map. */
export function labelsOf(list: string[]): Record<string, string> {
  return Object.fromEntries(list.map((l) => [l.slice(0, l.indexOf("=")), l.slice(l.indexOf("=") + 1)]));
}

/** A name that a twin may have, made of what a device is called. */
export function nameFrom(text: string | undefined): string {
  return (text ?? "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 128);
}
