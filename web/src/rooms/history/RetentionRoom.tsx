import "./history.css";

import { Button, Loader, NumberInput, SegmentedControl, Select, Table, TextInput } from "@mantine/core";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { history } from "../../api/client";
import { useHome, useOneProject } from "../../frame/project";
import { RoomHead, Trouble } from "../../frame/Room";
import { quote, Try } from "../../frame/Try";
import { Uses } from "../../frame/Uses";
import type { Curation, PreviewRetentionResponse } from "../../gen/pollux/v1/history_pb";
import type { RetentionRule, SampleRetention } from "../../gen/pollux/v1/ingest_pb";
import { useProjects } from "../../model/catalog";
import { counts, span } from "../../model/retention";
import { dateTime } from "../../model/value";
import { historyTabs } from "./tabs";

/** How long a project's past is kept, what the project takes against its quotas, and what rules would delete. */
export function RetentionRoom() {
  const [word, setWord] = useOneProject();
  const home = useHome();
  const project = word || home;
  const flag = project === "default" ? "" : ` --project ${quote(project)}`;
  const names = (useProjects().data ?? []).map((p) => p.name);
  const { data, error, isPending } = useQuery({
    queryKey: ["retention", project],
    queryFn: ({ signal }) => history.getRetentionStatus({ project, preview: true }, { signal }),
    enabled: project !== "",
    refetchInterval: 5000,
  });
  return (
    <>
      <RoomHead title="Retention" tabs={historyTabs} error={error}>
        <Select
          aria-label="Project"
          searchable
          allowDeselect={false}
          data={names.includes(project) || !project ? names : [project, ...names]}
          value={project || null}
          onChange={(v) => v && setWord(v)}
        />
      </RoomHead>
      {isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      {data && (
        <>
          <section className="panel" aria-label="What the project takes">
            <h2>What the project takes</h2>
            <Uses uses={data.uses} />
          </section>
          <section className="panel" aria-label="Rules">
            <h2>How long the past is kept</h2>
            <Rules rules={data.rules} samples={data.sampleRules} preview={data.preview} />
            {data.curation && <p className="muted pad">{curationText(data.curation)}</p>}
            {data.preview && <Preview preview={data.preview} />}
            <div className="pad">
              <Try
                lines={[
                  { what: "Events for a month, samples of power for a week, then one of five minutes for a year", line: `pollux retention set event=30d samples/power=7d,5m:365d${flag}` },
                  { what: "At most a thousand twins, and 1 GiB of journal", line: `pollux retention quota twins=1000 journal=1GiB${flag}` },
                ]}
              />
            </div>
          </section>
          <Asking project={project} />
        </>
      )}
    </>
  );
}

function Rules({ rules, samples, preview }: { rules: RetentionRule[]; samples: SampleRetention[]; preview?: PreviewRetentionResponse }) {
  return (
    <Table>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Of</Table.Th>
          <Table.Th>Name</Table.Th>
          <Table.Th>Kept for</Table.Th>
          <Table.Th>Then</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rules.map((r) => (
          <Table.Tr key={`${r.kind}/${r.name}`}>
            <Table.Td>{r.kind || "all of the journal"}</Table.Td>
            <Table.Td>{r.name || "all"}</Table.Td>
            <Table.Td>{span(r.maxAge)}</Table.Td>
            <Table.Td />
          </Table.Tr>
        ))}
        {samples.map((r) => (
          <Table.Tr key={`samples ${r.model}/${r.property}`}>
            <Table.Td>samples{r.model && ` of ${r.model}`}</Table.Td>
            <Table.Td>{r.property || "all"}</Table.Td>
            <Table.Td>{span(r.maxAge)}</Table.Td>
            <Table.Td>{r.downsample && `one of ${span(r.downsample)}${r.downsampleMaxAge ? ` for ${span(r.downsampleMaxAge)}` : ""}`}</Table.Td>
          </Table.Tr>
        ))}
        <Table.Tr>
          <Table.Td>all else</Table.Td>
          <Table.Td />
          <Table.Td>{span(preview?.defaultMaxAge)}</Table.Td>
          <Table.Td />
        </Table.Tr>
      </Table.Tbody>
    </Table>
  );
}

function Preview({ preview }: { preview: PreviewRetentionResponse }) {
  const entries = preview.entries > 0n && `${preview.entries} journal entries (${counts(preview.kinds)})`;
  const samples = preview.samples > 0n && `${preview.samples} samples of ${preview.series} series (${counts(preview.properties)})`;
  return <p className="pad">{entries || samples ? `Would go now: ${[entries, samples].filter(Boolean).join(" and ")}.` : "Nothing would go now."}</p>;
}

function curationText(c: Curation): string {
  const did = `${c.entries} journal entries and ${c.samples} samples deleted`;
  if (c.running) return `Node ${c.node} is deleting, now ${c.running}: ${did}.`;
  if (c.error) return `Node ${c.node} failed and will try again: ${c.error}`;
  return `Node ${c.node} was done ${c.endTime ? dateTime(timestampMs(c.endTime)) : ""}: ${did}.`;
}

/** What a rule would delete, before it is one. */
function Asking({ project }: { project: string }) {
  const [of, setOf] = useState("samples");
  const [name, setName] = useState("");
  const [days, setDays] = useState<number | string>(30);
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: () => {
      const maxAge = { seconds: BigInt(Math.round(Number(days) * 86_400)), nanos: 0 };
      return of === "samples" ? history.previewRetention({ project, sampleRules: [{ property: name, maxAge }] }) : history.previewRetention({ project, rules: [{ kind: name, maxAge }] });
    },
  });
  return (
    <section className="panel" aria-label="Ask first">
      <h2>What would a rule delete?</h2>
      <form
        className="toolbar"
        onSubmit={(e) => {
          e.preventDefault();
          mutate();
        }}
      >
        <SegmentedControl aria-label="Of what" data={[{ value: "samples", label: "Samples" }, { value: "journal", label: "Journal" }]} value={of} onChange={setOf} />
        <TextInput aria-label="Name" placeholder={of === "samples" ? "Property; empty: all" : "Kind, such as event; empty: all"} value={name} onChange={(e) => setName(e.currentTarget.value)} />
        <NumberInput aria-label="Days" min={0.05} max={36_500} suffix=" days" value={days} onChange={setDays} />
        <Button type="submit" variant="default" loading={isPending} disabled={!(Number(days) > 0)}>
          Ask
        </Button>
      </form>
      <Trouble error={error} inside />
      {data && <Preview preview={data} />}
    </section>
  );
}
