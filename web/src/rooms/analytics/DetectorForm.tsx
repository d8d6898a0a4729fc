import { NumberInput, Select, TextInput } from "@mantine/core";
import { create } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type SyntheticEvent } from "react";

import { analytics } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { TwinInput } from "../../frame/TwinInput";
import { SelectionSchema } from "../../gen/pollux/v1/automation_pb";
import { DetectorKind, DetectorSchema, type Detector } from "../../gen/pollux/v1/analytics_pb";
import { full } from "../../model/id";
import { Foot } from "../automation/Foot";
import { kindOf, kinds, outputOf } from "./kinds";
import { projectOf, Trial } from "./Trial";

/** Makes a detector, or changes one; what the form says can be tried on history before it is saved. */
export function DetectorForm({ detector, onClose }: { detector?: Detector; onClose: (id: string) => void }) {
  const client = useQueryClient();
  const [d, setD] = useState<Detector>(() => detector ?? create(DetectorSchema, { kind: DetectorKind.EWMA }));
  const change = (part: Partial<Detector>) => setD((old) => create(DetectorSchema, { ...old, ...part }));
  const kind = kindOf(d.kind);
  const minutes = d.window ? durationMs(d.window) / 60_000 : "";
  const save = useMutation({
    mutationFn: async () => {
      const whole = create(DetectorSchema, { ...d, id: full(d.id), logic: d.logic && full(d.logic) });
      if (detector) await analytics.updateDetector({ detector: whole });
      else await analytics.createDetector({ detector: whole });
      return whole.id;
    },
    onSuccess: async (id) => {
      await client.invalidateQueries({ queryKey: ["detector"] });
      onClose(id);
    },
  });
  const select = (part: Partial<NonNullable<Detector["of"]>>) => change({ of: { ...(d.of ?? create(SelectionSchema)), ...part } });
  /** What a kind does not use must not be said of it. */
  const choose = (value: string | null) => {
    const next = kinds.find((k) => k.name === value);
    if (!next) return;
    const keep = (name: (typeof next.uses)[number]) => next.uses.includes(name);
    change({
      kind: next.kind,
      threshold: next.threshold ? d.threshold : 0,
      window: keep("window") ? d.window : undefined,
      readings: keep("readings") ? d.readings : 0,
      tolerance: keep("tolerance") ? d.tolerance : 0,
      timeZone: keep("timeZone") ? d.timeZone : "",
      logic: keep("logic") ? d.logic : "",
    });
  };
  const number = (value: string | number) => (typeof value === "number" ? value : 0);
  return (
    <>
      <form
        className="stack pad"
        aria-label="Detector"
        onSubmit={(e: SyntheticEvent) => {
          e.preventDefault();
          save.mutate();
        }}
      >
        <div className="fields">
          {!detector && <TextInput label="Id" placeholder="default/spikes" required value={d.id} onChange={(e) => change({ id: e.currentTarget.value })} />}
          <TextInput label="Title" value={d.title} onChange={(e) => change({ title: e.currentTarget.value })} />
          <Select label="Kind" allowDeselect={false} data={kinds.map((k) => ({ value: k.name, label: `${k.name}: ${k.finds}` }))} value={kind.name} onChange={choose} />
          {kind.uses.includes("logic") && <TextInput label="Logic" placeholder="default/hampel" required value={d.logic} onChange={(e) => change({ logic: e.currentTarget.value.trim() })} />}
          <TextInput label="Property" placeholder="temperature" required value={d.property} onChange={(e) => change({ property: e.currentTarget.value })} />
          <TextInput label="Of model" placeholder="any" value={d.of?.model ?? ""} onChange={(e) => select({ model: e.currentTarget.value })} />
          <TextInput label="In zone" placeholder="any" value={d.of?.zone ?? ""} onChange={(e) => select({ zone: e.currentTarget.value })} />
          <TwinInput label="Only twin" visible project={projectOf(d.id)} value={d.of?.twins[0] ?? ""} onChange={(twin) => select({ twins: twin ? [twin] : [] })} />
          {kind.threshold > 0 && (
            <NumberInput label="Threshold" placeholder={String(kind.threshold)} min={0} value={d.threshold || ""} onChange={(v) => change({ threshold: number(v) })} />
          )}
          {kind.uses.includes("window") && (
            <NumberInput
              label="Window in minutes"
              placeholder={kind.threshold ? "learned" : "60"}
              min={0}
              value={minutes}
              onChange={(v) => change({ window: number(v) > 0 ? durationFromMs(number(v) * 60_000) : undefined })}
            />
          )}
          {kind.uses.includes("readings") && (
            <NumberInput label="Readings" placeholder={d.kind === DetectorKind.EWMA ? "12" : "100"} min={0} value={d.readings || ""} onChange={(v) => change({ readings: number(v) })} />
          )}
          {kind.uses.includes("tolerance") && <NumberInput label="Tolerance" placeholder="0" min={0} value={d.tolerance || ""} onChange={(v) => change({ tolerance: number(v) })} />}
          {kind.uses.includes("timeZone") && <TextInput label="Time zone" placeholder="UTC" value={d.timeZone} onChange={(e) => change({ timeZone: e.currentTarget.value })} />}
          <TextInput label="Output" placeholder={d.property ? outputOf({ ...d, output: "" }) : ""} value={d.output} onChange={(e) => change({ output: e.currentTarget.value })} />
        </div>
        <Trouble error={save.error} inside />
        <Foot kind="detector" id={detector?.id ?? ""} pending={save.isPending} remove={() => analytics.deleteDetector({ id: d.id })} onClose={onClose} />
      </form>
      {d.kind !== DetectorKind.MODULE && <Trial detector={d} project={projectOf(d.id)} />}
    </>
  );
}
