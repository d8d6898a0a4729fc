import { MultiSelect, NumberInput, Select, TagsInput, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type SyntheticEvent } from "react";

import { explain } from "../../api/errors";
import { automation, notifiers } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { full } from "../../model/id";
import { Foot } from "./Foot";
import { aggregates, scheduleOf, weekdays, type Report } from "./report";

const first: Report = {
  name: "",
  notifier: "",
  properties: [],
  model: "",
  twins: [],
  time: "07:00",
  weekdays: [],
  zone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  hours: 24,
  stepMinutes: 60,
  aggregate: "avg",
  formats: ["csv"],
};

/** Makes a report: a schedule that has a notifier send what properties were. */
export function ReportForm({ onClose }: { onClose: (id: string) => void }) {
  const client = useQueryClient();
  const [r, setR] = useState(first);
  const set = (part: Partial<Report>) => setR((old) => ({ ...old, ...part }));
  const { data } = useQuery({
    queryKey: ["notifier", "offered"],
    queryFn: async ({ signal }) => (await notifiers.listNotifiers({ pageSize: 1000 }, { signal })).notifiers.map((n) => n.id),
  });
  const save = useMutation({
    mutationFn: async () => {
      const id = full(r.name);
      return (await automation.putSchedule({ schedule: scheduleOf(r, id) })).schedule?.id ?? id;
    },
    onSuccess: async (id) => {
      await client.invalidateQueries({ queryKey: ["schedule"] });
      onClose(id);
    },
  });
  const number = (value: string | number, none: number) => (typeof value === "number" ? value : none);
  return (
    <form
      className="stack pad"
      aria-label="New report"
      onSubmit={(e: SyntheticEvent) => {
        e.preventDefault();
        save.mutate();
      }}
    >
      <TextInput label="Name" required value={r.name} onChange={(e) => set({ name: e.currentTarget.value })} />
      <Select label="Notifier" description="One of mail, or a signed webhook" required searchable data={data ?? []} value={r.notifier || null} onChange={(v) => set({ notifier: v ?? "" })} />
      <TagsInput label="Properties" description="Enter after each" required value={r.properties} onChange={(properties) => set({ properties })} />
      <TextInput label="Model" description="Of all twins of this model" value={r.model} onChange={(e) => set({ model: e.currentTarget.value })} />
      <TagsInput label="Twins" description="Or of these; Enter after each" value={r.twins} onChange={(twins) => set({ twins })} />
      <TextInput label="At" type="time" required value={r.time} onChange={(e) => set({ time: e.currentTarget.value })} />
      <MultiSelect label="On" description="None: each day" data={weekdays} value={r.weekdays} onChange={(days) => set({ weekdays: days })} />
      <TextInput label="Time zone" value={r.zone} onChange={(e) => set({ zone: e.currentTarget.value })} />
      <NumberInput label="Hours back" min={1} max={8784} value={r.hours} onChange={(v) => set({ hours: number(v, 24) })} />
      <NumberInput label="A row each, in minutes" min={1} max={527040} value={r.stepMinutes} onChange={(v) => set({ stepMinutes: number(v, 60) })} />
      <Select label="Of a row's values" data={aggregates} value={r.aggregate} onChange={(v) => set({ aggregate: v ?? "avg" })} />
      <MultiSelect label="As" data={["csv", "html"]} value={r.formats} onChange={(formats) => set({ formats })} />
      <Trouble error={save.error && explain(save.error)} />
      <Foot kind="schedule" id="" pending={save.isPending} remove={() => Promise.resolve()} onClose={onClose} />
    </form>
  );
}
