import "./import.css";

import { Button, Progress, Select, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useRef, useState, type DragEvent } from "react";

import { bulk } from "../../api/client";
import { useHome, useOneProject } from "../../frame/project";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { type ConfigRecord } from "../../gen/pollux/v1/bulk_pb";
import { count } from "../../model/value";
import { UploadIcon } from "../../shell/icons";
import { ingestTabs } from "../../frame/ingestTabs";
import { columnsOf, listKinds, type ListKind } from "./lists";
import { read, write } from "./plan";
import { Report } from "./Report";
import { useApply } from "./useApply";

/** The largest file that the page reads. */
const largest = 64 << 20;

/** Records of a file: looked at before anything changes, then applied; and a project as such a file. */
export function ImportRoom() {
  const queries = useQueryClient();
  const [word, setProject] = useOneProject();
  const home = useHome() || "default";
  const project = word || home;
  const [file, setFile] = useState<{ name: string; text: string }>();
  const [as, setAs] = useState<ListKind>();
  const [trouble, setTrouble] = useState<string>();
  const { run, start, stop, clear } = useApply(useCallback(() => queries.invalidateQueries(), [queries]));
  const plan = useMemo(() => file && read(file.name, file.text, project, as), [file, project, as]);

  const take = async (files: Iterable<File>) => {
    const [chosen] = [...files];
    if (!chosen) return;
    setTrouble(undefined);
    clear();
    if (!/\.(csv|ya?ml)$/i.test(chosen.name)) return setTrouble(`${chosen.name} is neither .csv nor .yaml`);
    if (chosen.size > largest) return setTrouble(`${chosen.name} is larger than 64 MiB: use pollux import, which reads files of any size`);
    const text = await chosen.text();
    setAs(undefined);
    setFile({ name: chosen.name, text });
    // What would become of it is what everybody wants to see first.
    const read1 = read(chosen.name, text, project);
    if (read1.lines.length > 0) void start(read1, project, true);
  };

  return (
    <>
      <RoomHead title="Import" tabs={ingestTabs()}>
        <TextInput aria-label="Project" placeholder={home} leftSection={<span className="muted">project</span>} leftSectionWidth={58} value={word} onChange={(e) => setProject(e.currentTarget.value.trim())} w={190} disabled={run?.running} />
        <Export project={project} />
      </RoomHead>
      <Drop onFiles={(files) => void take(files)} />
      <Trouble error={trouble} />
      {!file && <Teach />}
      {file && plan && (
        <section className="panel" aria-label={`File ${file.name}`}>
          <h2>
            {file.name}
            <span className="muted">
              {count(plan.lines.length)} {plan.lines.length === 1 ? "record" : "records"}
              {plan.misread.length > 0 && `, ${count(plan.misread.length)} that cannot be read`}
            </span>
            <span className="panel-tools">
              {plan.list && (
                <Select
                  aria-label="An item is a"
                  allowDeselect={false}
                  data={listKinds.map((k) => ({ value: k, label: `each ${k === "alias" ? "an" : "a"} ${k}` }))}
                  value={plan.list}
                  w={150}
                  disabled={run?.running}
                  onChange={(v) => {
                    clear();
                    setAs(v as ListKind);
                  }}
                />
              )}
              {run?.running ? (
                <Button variant="default" onClick={stop}>
                  Stop
                </Button>
              ) : (
                <>
                  <Button variant="default" disabled={plan.lines.length === 0} onClick={() => void start(plan, project, true)}>
                    Dry run
                  </Button>
                  <Button disabled={plan.lines.length === 0 || (!plan.list && plan.misread.length > 0)} onClick={() => void start(plan, project, false)}>
                    Apply
                  </Button>
                </>
              )}
            </span>
          </h2>
          {plan.list && <p className="panel-note">Columns: {columnsOf[plan.list]}. Each stands for itself: what is wrong is left out.{plan.list === "alias" && " The twins are there and keep their other aliases."}</p>}
          {!plan.list && <p className="panel-note">Groups of up to 200 records are committed whole or not at all; the first one with something wrong ends it.</p>}
          {run?.running && <Progress m="md" size="sm" value={(run.done.length / Math.max(1, run.total)) * 100} aria-label="Progress" />}
          <Trouble error={run?.error} inside />
          <Report plan={plan} run={run} />
        </section>
      )}
    </>
  );
}

function Drop({ onFiles }: { onFiles: (files: Iterable<File>) => void }) {
  const [over, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const drag = (event: DragEvent, on: boolean) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(on);
  };
  return (
    <section
      className="import-drop"
      aria-label="File to import"
      data-over={over || undefined}
      onDragEnter={(e) => drag(e, true)}
      onDragOver={(e) => drag(e, true)}
      onDragLeave={(e) => {
        if (!e.currentTarget.contains(e.relatedTarget as Node | null)) drag(e, false);
      }}
      onDrop={(e) => {
        drag(e, false);
        onFiles(e.dataTransfer.files);
      }}
    >
      <UploadIcon size={22} />
      <span>
        <b>Drop a CSV or YAML file here</b>
        <small className="muted">It is tried first: nothing changes before you say Apply.</small>
      </span>
      <Button variant="default" onClick={() => input.current?.click()}>
        Choose a file
      </Button>
      <input
        ref={input}
        type="file"
        accept=".csv,.yaml,.yml"
        hidden
        aria-label="CSV or YAML file"
        onChange={(e) => {
          onFiles(e.currentTarget.files ?? []);
          e.currentTarget.value = "";
        }}
      />
    </section>
  );
}

function Teach() {
  return (
    <div className="empty">
      <b>Twins, zones, systems and aliases of a list; or a whole project as it shall be.</b>
      <span>A list is a CSV file with one record in each line, or a YAML file of such items. Other YAML files have any records, one per document.</span>
      <Try
        lines={[
          { what: "A CSV file of twins", line: "id,driver,uri,zone,labels.floor\nbeamer-1,pjlink,tcp://10.0.0.7:4352,aula,2\nbeamer-2,pjlink,tcp://10.0.0.8:4352,aula,2" },
          { what: "A YAML list of aliases", line: "- {network: lora, key: deveui, value: a84041000181c061, twin: meter-1}" },
          { what: "A YAML file of any records", line: "zone: {id: hq, kind: building, title: Headquarters}\n---\nzone: {id: aula, parent: hq, kind: room}" },
          { what: "The same from a terminal", line: "pollux import twins lamps.csv --dry-run; pollux apply -f building/ --dry-run" },
        ]}
      />
    </div>
  );
}

/** The project as a YAML file, for the browser to keep. */
function Export({ project }: { project: string }) {
  const save = useMutation({
    mutationFn: async () => {
      const records: ConfigRecord[] = [];
      for await (const part of bulk.export({ project })) records.push(...part.records);
      const url = URL.createObjectURL(new Blob([write(records)], { type: "application/yaml" }));
      Object.assign(document.createElement("a"), { href: url, download: `${project}.yaml` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      return records.length;
    },
  });
  return (
    <>
      {save.error && <Trouble error={save.error} />}
      {save.data !== undefined && (
        <span className="muted" role="status">
          {count(save.data)} records
        </span>
      )}
      <Button variant="default" loading={save.isPending} onClick={() => save.mutate()}>
        Export {project}
      </Button>
    </>
  );
}
