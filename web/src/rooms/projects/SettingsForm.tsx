import "./projects.css";

import { ActionIcon, Button, Select, TextInput, Tooltip } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { ingest } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { UnknownSenders, type ProjectSettings } from "../../gen/pollux/v1/ingest_pb";
import { TrashIcon } from "../../shell/icons";
import { draftOf, settingsOf, type Draft, type KeepDraft } from "./draft";

const choices = [
  { value: String(UnknownSenders.INBOX), label: "wait in the inbox" },
  { value: String(UnknownSenders.REFUSE), label: "are refused" },
  { value: String(UnknownSenders.PROVISION), label: "become twins by rules" },
];

/** A project's settings, saved against the revision that was read. */
export function SettingsForm({ old, onClose }: { old: ProjectSettings; onClose: (saved: boolean) => unknown }) {
  const [draft, setDraft] = useState<Draft>(() => draftOf(old));
  const change = (part: Partial<Draft>) => setDraft((before) => ({ ...before, ...part }));
  const text = (name: "maxAge" | "maxHistoryAge" | "maxAhead" | "twins" | "series" | "journal" | "topics", label: string, placeholder: string, description?: string) => (
    <TextInput label={label} description={description} placeholder={placeholder} value={draft[name]} onChange={(e) => change({ [name]: e.currentTarget.value })} />
  );
  const save = useMutation({
    mutationFn: async () => ingest.putProjectSettings({ settings: settingsOf(old, draft) }),
    onSuccess: () => onClose(true),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={`Settings of ${old.project}`}>
      <h3>Messages</h3>
      <div className="fields">
        <Select label="Unknown senders" description="whose alias no twin has" allowDeselect={false} data={choices} value={String(draft.unknown)} onChange={(v) => change({ unknown: Number(v) })} />
        {text("maxAge", "As old as", "30d", "to change the present")}
        {text("maxHistoryAge", "For history as old as", "395d", "older values are refused")}
        {text("maxAhead", "Ahead of the clock", "10min", "by a device’s own clock")}
      </div>
      <h3>What it may take</h3>
      <div className="fields">
        {text("twins", "Twins", "no bound", "no more can be made")}
        {text("series", "Series", "no bound", "it is told of, none is refused")}
        {text("journal", "Journal", "no bound", "the oldest go, such as 1GiB")}
        {text("topics", "Topics", "no bound", "the oldest go, such as 256MiB")}
      </div>
      <h3>How long the past is kept</h3>
      <p className="muted">The closest rule counts; what none is for is kept as long as the cluster keeps history. An empty word is any.</p>
      {draft.keep.map((k, i) => (
        <Keep key={i} n={i + 1} rule={k} onChange={(part) => change({ keep: draft.keep.map((x, j) => (i === j ? { ...x, ...part } : x)) })} onRemove={() => change({ keep: draft.keep.filter((_, j) => i !== j) })} />
      ))}
      <div>
        <Button size="compact-sm" variant="default" onClick={() => change({ keep: [...draft.keep, { of: "samples", group: "", name: "", age: "30d", step: "", stepAge: "" }] })}>
          Add a rule
        </Button>
      </div>
      <Trouble error={save.error} />
      <div className="actions">
        <Button variant="default" onClick={() => onClose(false)}>
          Cancel
        </Button>
        <Button type="submit" loading={save.isPending}>
          Save
        </Button>
      </div>
    </form>
  );
}

interface KeepProps {
  n: number;
  rule: KeepDraft;
  onChange: (part: Partial<KeepDraft>) => void;
  onRemove: () => void;
}

function Keep({ n, rule: k, onChange, onRemove }: KeepProps) {
  const samples = k.of === "samples";
  const field = (name: "group" | "name" | "age" | "step" | "stepAge", label: string, placeholder: string) => (
    <TextInput label={label} aria-label={`${label}, rule ${n}`} placeholder={placeholder} value={k[name]} onChange={(e) => onChange({ [name]: e.currentTarget.value })} />
  );
  return (
    <div className="keep" role="group" aria-label={`Rule ${n}`}>
      <Select
        label="Of"
        aria-label={`Of, rule ${n}`}
        allowDeselect={false}
        data={[
          { value: "samples", label: "samples" },
          { value: "journal", label: "the journal" },
        ]}
        value={k.of}
        onChange={(v) => onChange(v === "journal" ? { of: v, step: "", stepAge: "" } : { of: "samples" })}
      />
      {field("group", samples ? "Model" : "Kind", "any")}
      {field("name", samples ? "Property" : "Name", "any")}
      {field("age", "Kept for", "30d")}
      {samples ? field("step", "Then one of", "none") : <span />}
      {samples ? field("stepAge", "for", "as history") : <span />}
      <Tooltip label="Remove this rule">
        <ActionIcon variant="subtle" color="gray" aria-label={`Remove rule ${n}`} onClick={onRemove}>
          <TrashIcon />
        </ActionIcon>
      </Tooltip>
    </div>
  );
}
