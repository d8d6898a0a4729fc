import { ActionIcon, Button, Checkbox, NativeSelect, Table, Tabs, Textarea, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useLocation } from "wouter";

import { models } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Trouble } from "../../frame/Room";
import type { Model } from "../../gen/pollux/v1/model_pb";
import { parseThing, rows, types, withoutRow, withRow, type PropertyRow } from "../../model/thingmodel";
import { count } from "../../model/value";
import { TrashIcon } from "../../shell/icons";
import { CreateTwin } from "../twins/CreateTwin";

const fresh: PropertyRow = {
  name: "",
  type: "number",
  unit: "",
  writable: false,
  virtual: false,
  path: "",
  from: "",
  deadband: "",
  stale: "",
};

interface EditorProps {
  model: Model;
  /** How many twins have it now. */
  twins: bigint;
  onChanged: () => unknown;
}

/** Edits a model: its title and properties, all of it as text; from here its twins are made. */
export function ModelEditor({ model, twins, onChanged }: EditorProps) {
  const [text, setText] = useState(model.thingJson);
  const [, go] = useLocation();
  const thing = parseThing(text);
  const { id, revision } = model;
  const save = useMutation({
    mutationFn: async () => {
      if (revision > 0n) await models.updateModel({ model: { id, thingJson: text, revision } });
      else await models.createModel({ model: { id, thingJson: text } });
    },
    onSuccess: onChanged,
  });
  const [asking, setAsking] = useState(false);
  const [creating, setCreating] = useState(false);
  const change = (next: Record<string, unknown>) => setText(JSON.stringify(next, null, 2));
  return (
    <section className="panel" aria-label={`Model ${id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {model.title || id} <code>{id}</code>
          </h2>
          <p className="muted">{revision > 0n ? model.description : "There is no such model yet."}</p>
          {twins > 0n && (
            <p>
              <Link href={`/twins?model=${encodeURIComponent(id)}`}>{twins === 1n ? "One twin has it" : `${count(twins)} twins have it`}</Link>
            </p>
          )}
        </div>
        <span className="head-actions">
          {revision > 0n && (
            <>
              <Button variant="default" onClick={() => setCreating(true)}>
                Create twin
              </Button>
              <Button variant="default" onClick={() => setAsking(true)}>
                Delete
              </Button>
            </>
          )}
          <Button loading={save.isPending} disabled={!thing || (text === model.thingJson && revision > 0n)} onClick={() => save.mutate()}>
            {revision > 0n ? "Save" : "Create"}
          </Button>
        </span>
      </div>
      <Trouble error={save.error} inside />
      <Tabs defaultValue="properties" keepMounted={false} className="detail-tabs">
        <Tabs.List>
          <Tabs.Tab value="properties">Properties</Tabs.Tab>
          <Tabs.Tab value="text">Thing Model</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="properties" p="md">
          {thing ? (
            <>
              <TextInput label="Title" mb="md" maw={360} value={typeof thing.title === "string" ? thing.title : ""} onChange={(e) => change({ ...thing, title: e.currentTarget.value })} />
              <Properties thing={thing} onChange={change} />
            </>
          ) : (
            <p className="bad">The text is no JSON object.</p>
          )}
        </Tabs.Panel>
        <Tabs.Panel value="text" p="md">
          <Textarea aria-label="Thing Model" autosize minRows={12} maxRows={36} spellCheck={false} value={text} onChange={(e) => setText(e.currentTarget.value)} />
        </Tabs.Panel>
      </Tabs>
      <Ask
        opened={asking}
        onClose={() => setAsking(false)}
        title="Delete model"
        verb="Delete model"
        run={() => models.deleteModel({ id, revision })}
        onDone={() => {
          go("/models");
          return onChanged();
        }}
      >
        <b>{id}</b> goes. While twins have it, the node keeps it.
      </Ask>
      <CreateTwin opened={creating} onClose={() => setCreating(false)} kind={{ driver: "", model: id }} />
    </section>
  );
}

function Properties({ thing, onChange }: { thing: Record<string, unknown>; onChange: (next: Record<string, unknown>) => void }) {
  const all = rows(thing);
  const taken = new Set(all.map((r) => r.name));
  let n = all.length + 1;
  while (taken.has(`property${n}`)) n++;
  return (
    <>
      <Table.ScrollContainer minWidth={860}>
        <Table verticalSpacing={4} horizontalSpacing={6} aria-label="Properties">
          <Table.Thead>
            <Table.Tr>
              <Table.Th w="20%">Name</Table.Th>
              <Table.Th w={104}>Type</Table.Th>
              <Table.Th>Unit</Table.Th>
              <Table.Th w="16%">Path in messages</Table.Th>
              <Table.Th>Their unit</Table.Th>
              <Table.Th>Deadband</Table.Th>
              <Table.Th title="Seconds without a message until it is stale">Stale (s)</Table.Th>
              <Table.Th w={70}>Writable</Table.Th>
              <Table.Th w={60}>Virtual</Table.Th>
              <Table.Th aria-label="Remove" />
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {all.map((row) => (
              <Row
                key={row.name}
                row={row}
                taken={taken}
                onChange={(next) => onChange(withRow(thing, row.name, next))}
                onRemove={() => onChange(withoutRow(thing, row.name))}
              />
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Button mt="sm" variant="default" onClick={() => onChange(withRow(thing, undefined, { ...fresh, name: `property${n}` }))}>
        Add a property
      </Button>
    </>
  );
}

interface RowProps {
  row: PropertyRow;
  taken: Set<string>;
  onChange: (next: PropertyRow) => void;
  onRemove: () => void;
}

function Row({ row, taken, onChange, onRemove }: RowProps) {
  const [name, setName] = useState(row.name);
  const cell = (label: string, key: "unit" | "path" | "from" | "deadband" | "stale") => (
    <Table.Td>
      <TextInput size="xs" aria-label={`${label} of ${row.name}`} value={row[key]} onChange={(e) => onChange({ ...row, [key]: e.currentTarget.value })} />
    </Table.Td>
  );
  const rename = () => {
    if (name === row.name) return;
    if (name === "" || taken.has(name)) setName(row.name);
    else onChange({ ...row, name });
  };
  return (
    <Table.Tr>
      <Table.Td>
        <TextInput size="xs" aria-label={`Name of ${row.name}`} value={name} onChange={(e) => setName(e.currentTarget.value)} onBlur={rename} />
      </Table.Td>
      <Table.Td>
        <NativeSelect size="xs" aria-label={`Type of ${row.name}`} data={types} value={row.type} onChange={(e) => onChange({ ...row, type: e.currentTarget.value })} />
      </Table.Td>
      {cell("Unit", "unit")}
      {cell("Path", "path")}
      {cell("Unit in messages", "from")}
      {cell("Deadband", "deadband")}
      {cell("Stale", "stale")}
      <Table.Td>
        <Checkbox aria-label={`${row.name} is writable`} checked={row.writable} onChange={(e) => onChange({ ...row, writable: e.currentTarget.checked })} />
      </Table.Td>
      <Table.Td>
        <Checkbox aria-label={`${row.name} is virtual`} checked={row.virtual} onChange={(e) => onChange({ ...row, virtual: e.currentTarget.checked })} />
      </Table.Td>
      <Table.Td>
        <ActionIcon variant="subtle" color="gray" aria-label={`Remove ${row.name}`} onClick={onRemove}>
          <TrashIcon />
        </ActionIcon>
      </Table.Td>
    </Table.Tr>
  );
}
