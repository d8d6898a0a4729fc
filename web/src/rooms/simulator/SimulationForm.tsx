import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Autocomplete, Button, Checkbox, FileButton, Select, Textarea, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { simulations } from "../../api/client";
import { Trouble } from "../../frame/Room";
import type { Simulation } from "../../gen/pollux/v1/simulation_pb";
import { useModelRecords } from "../../model/catalog";
import { full } from "../../model/id";

const keys = `name: room-{n}
count: 10
every: 10s
length: 24h
values:
  temperature:
    keys: {0s: 18, 6h: 18, 9h: 21.5, 18h: 21, 24h: 18}
    interpolate: smooth
    noise: 0.1
    spread: 1
    round: 0.1
    faults:
      - {kind: dropout, share: 0.001, for: 5m}
`;

const blanks: Record<string, string> = {
  "Key frames": keys,
  "CSV file": "twins: [room-1]\nevery: 10s\nrecord: {csv: readings.csv}\n",
  "History of a twin": "twins: [copy]\nevery: 10s\nrecord: {twin: room-1, properties: [temperature], start: -1h}\n",
};

/** A new simulation, or another scenario for one that there is. */
export function SimulationForm({ old, onClose }: { old?: Simulation; onClose: (id: string) => void }) {
  const models = useModelRecords();
  const [kind, setKind] = useState("Key frames");
  const [id, setID] = useState("");
  const [title, setTitle] = useState(old?.title ?? "");
  const [model, setModel] = useState(old?.model ?? "");
  const [scenario, setScenario] = useState(old?.scenario ?? keys);
  const [csv, setCSV] = useState(old?.csv ?? "");
  const [days, setDays] = useState("");
  const [paused, setPaused] = useState(false);
  const save = useMutation({
    mutationFn: async () => {
      if (old) {
        await simulations.updateSimulation({ simulation: { ...old, title, model, scenario, csv } });
        return old.id;
      }
      const from = days ? timestampFromDate(new Date(Date.now() - Number(days) * 86_400_000)) : undefined;
      const made = await simulations.createSimulation({ simulation: { id: full(id), title, model, scenario, csv, paused, from, speed: from ? 0 : 1 } });
      return made.simulation?.id ?? "";
    },
    onSuccess: onClose,
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  const recorded = /^record:.*csv/m.test(scenario) || csv !== "";
  return (
    <form className="stack pad" onSubmit={submit} aria-label={old ? `Change ${old.id}` : "New simulation"}>
      <div className="fields">
        {!old && <TextInput label="Name" placeholder="office, or project/office" withAsterisk value={id} onChange={(e) => setID(e.currentTarget.value.trim())} />}
        <TextInput label="Title" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        <Autocomplete label="Model" description="missing twins are made with it" data={(models.data ?? []).map((m) => m.id)} value={model} onChange={setModel} />
        {!old && <TextInput label="Days ago" description="it goes to history only" inputMode="decimal" value={days} onChange={(e) => setDays(e.currentTarget.value.replace(/[^\d.]/g, ""))} />}
        {!old && (
          <Select
            label="Values from"
            data={Object.keys(blanks)}
            value={kind}
            allowDeselect={false}
            onChange={(v) => {
              if (!v) return;
              setKind(v);
              setScenario(blanks[v] ?? keys);
            }}
          />
        )}
      </div>
      <Textarea label="Scenario" description="YAML" autosize minRows={8} maxRows={24} spellCheck={false} classNames={{ input: "cel" }} value={scenario} onChange={(e) => setScenario(e.currentTarget.value)} />
      {recorded && (
        <>
          <Textarea label="Recorded values" description="a line time,PROPERTY,… then lines of values" autosize minRows={3} maxRows={10} spellCheck={false} classNames={{ input: "cel" }} value={csv} onChange={(e) => setCSV(e.currentTarget.value)} />
          <FileButton accept=".csv,text/csv" onChange={(file) => void file?.text().then(setCSV)}>
            {(props) => (
              <Button {...props} variant="default" size="compact-sm">
                Read a file
              </Button>
            )}
          </FileButton>
        </>
      )}
      {!old && <Checkbox label="Do not begin yet" checked={paused} onChange={(e) => setPaused(e.currentTarget.checked)} />}
      <Trouble error={save.error} />
      <div className="actions">
        <Button variant="default" onClick={() => onClose(old?.id ?? "")}>
          Cancel
        </Button>
        <Button type="submit" loading={save.isPending} disabled={!old && !id}>
          {old ? "Save" : "Create"}
        </Button>
      </div>
    </form>
  );
}
