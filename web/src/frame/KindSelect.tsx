import { Select } from "@mantine/core";

import { useDrivers, useModelRecords } from "../model/catalog";
import { split } from "../model/id";
import { kindOf, kinds, valueOf, type Kind } from "../model/kind";

interface Props {
  /** The models that a twin of this project may have. */
  project: string;
  value: Kind;
  onChange: (value: Kind) => void;
  /** A twin that there is stays with a driver, or with a model. */
  only?: "driver" | "model";
  description?: string;
  /** Each version of a driver may be asked for, too. */
  versions?: boolean;
  error?: string;
}

/** What a twin is of: a model that reads its messages, or a driver that speaks with it. */
export function KindSelect({ project, value, onChange, only, description = "what reads its messages", versions, error }: Props) {
  const models = useModelRecords();
  const drivers = useDrivers();
  const ofProject = (models.data ?? []).filter((m) => split(m.id).project === project);
  const groups = kinds(only === "model" ? [] : (drivers.data ?? []), only === "driver" ? [] : ofProject, versions);
  const chosen = valueOf(value);
  const known = groups.flatMap((g) => g.items.map((i) => i.value));
  // What is not in the list is shown as it is: a driver that was removed, a model that is not read yet.
  const data = chosen && !known.includes(chosen) ? [...groups, { group: "Other", items: [{ value: chosen, label: value.model || value.driver }] }] : groups;
  const reading = models.isPending || drivers.isPending;
  return (
    <Select
      label={only ? { driver: "Driver", model: "Model" }[only] : "Model or driver"}
      description={description}
      withAsterisk
      searchable
      placeholder={reading ? "Loading" : known.length ? "Choose" : "None yet: make one in Models, or add one in Drivers"}
      data={data}
      value={chosen || null}
      error={error}
      onChange={(v) => onChange(kindOf(v ?? ""))}
    />
  );
}
