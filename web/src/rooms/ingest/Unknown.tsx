import { ActionIcon, Autocomplete, Button, Loader, Select, TextInput, Tooltip } from "@mantine/core";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { ingest } from "../../api/client";
import { KindSelect } from "../../frame/KindSelect";
import { Trouble } from "../../frame/Room";
import { UnknownSenders, type ProvisionRule, type ProvisionRuleSchema } from "../../gen/pollux/v1/ingest_pb";
import type { InboxEntry } from "../../gen/pollux/v1/site_pb";
import { useZones } from "../../model/catalog";
import { split } from "../../model/id";
import { valueOf } from "../../model/kind";
import { TrashIcon } from "../../shell/icons";

const choices = [
  { value: String(UnknownSenders.INBOX), label: "wait in the inbox" },
  { value: String(UnknownSenders.REFUSE), label: "are refused" },
  { value: String(UnknownSenders.PROVISION), label: "become twins by the rules below, or wait in the inbox" },
];

/** What becomes of senders that nobody knows in a project, and the rules that make twins of them. */
export function Unknown({ project, from }: { project: string; from?: InboxEntry }) {
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const query = useQuery({ queryKey: ["project settings", project], queryFn: ({ signal }) => ingest.getProjectSettings({ project }, { signal }) });
  const settings = query.data?.settings;
  const save = useMutation({
    mutationFn: (change: { unknownSenders?: UnknownSenders; rules?: MessageInitShape<typeof ProvisionRuleSchema>[] }) =>
      ingest.putProjectSettings({ settings: { ...settings, $typeName: undefined, project, ...change } }),
    onSuccess: () => setAdding(false),
    // The next change stands on what this one has left, so it waits until that is read.
    onSettled: () => queries.invalidateQueries({ queryKey: ["project settings", project] }),
  });
  const rules = settings?.rules ?? [];
  const choice = settings?.unknownSenders || UnknownSenders.INBOX;
  return (
    <section className="panel" aria-label="Unknown senders from now on">
      <h2>
        Unknown senders of {project} from now on
        <span className="panel-tools">
          <Button size="compact-xs" variant="default" onClick={() => setAdding(true)} disabled={adding || !settings}>
            Make a rule
          </Button>
        </span>
      </h2>
      <Trouble error={query.error} inside />
      {query.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      {settings && (
        <div className="pad">
          <Select aria-label="Unknown senders" allowDeselect={false} data={choices} disabled={save.isPending} value={String(choice)} onChange={(v) => save.mutate({ unknownSenders: Number(v) })} />
        </div>
      )}
      <ul className="list" aria-label="Rules">
        {rules.map((r, i) => (
          <li key={i} className="rule-line">
            <Sentence rule={r} />
            <Tooltip label="Remove this rule">
              <ActionIcon variant="subtle" color="gray" aria-label={`Remove rule ${i + 1}`} disabled={save.isPending} onClick={() => save.mutate({ rules: rules.filter((_, j) => j !== i) })}>
                <TrashIcon />
              </ActionIcon>
            </Tooltip>
          </li>
        ))}
      </ul>
      {adding && <NewRule project={project} from={from} busy={save.isPending} onCancel={() => setAdding(false)} onAdd={(rule) => save.mutate({ rules: [...rules, rule], unknownSenders: UnknownSenders.PROVISION })} />}
      <Trouble error={save.error} inside />
    </section>
  );
}

function Sentence({ rule: r }: { rule: ProvisionRule }) {
  return (
    <span>
      <code>{[r.network, r.key, r.value].map((x) => x || "*").join("/")}</code> → <b>{r.name || "{value}"}</b> of {r.model ? `model ${r.model}` : `driver ${r.driver}`}
      {r.zone && ` in ${r.zone}`}
    </span>
  );
}

interface NewRuleProps {
  project: string;
  from?: InboxEntry;
  busy: boolean;
  onCancel: () => void;
  onAdd: (rule: MessageInitShape<typeof ProvisionRuleSchema>) => void;
}

function NewRule({ project, from, busy, onCancel, onAdd }: NewRuleProps) {
  const { data: zones } = useZones();
  const [network, setNetwork] = useState(from?.alias?.network ?? "");
  const [key, setKey] = useState(from?.alias?.key ?? "");
  const [value, setValue] = useState("*");
  const [kind, setKind] = useState({ driver: from?.driver ?? "", model: "" });
  const [name, setName] = useState("{value}");
  const [zone, setZone] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onAdd({ network, key, value, name, zone: zone.trim(), ...kind });
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label="New rule">
      <p className="muted">A sender whose network, key and value fit becomes a twin with its first message. * is any text.</p>
      <div className="fields">
        <TextInput label="Network" value={network} placeholder="*" onChange={(e) => setNetwork(e.currentTarget.value)} />
        <TextInput label="Key" value={key} placeholder="*" onChange={(e) => setKey(e.currentTarget.value)} />
        <TextInput label="Value" value={value} placeholder="*" onChange={(e) => setValue(e.currentTarget.value)} />
        <TextInput label="Twin’s name" description="{network}, {key}, {value}" value={name} onChange={(e) => setName(e.currentTarget.value)} />
        <KindSelect project={project} value={kind} onChange={setKind} />
        <Autocomplete label="Zone" description="where it is" placeholder="none" data={(zones ?? []).map((z) => z.id).filter((z) => split(z).project === project)} value={zone} onChange={setZone} />
      </div>
      <div className="actions">
        <Button variant="default" onClick={onCancel}>
          Cancel
        </Button>
        <Button type="submit" loading={busy} disabled={!valueOf(kind)}>
          Add the rule
        </Button>
      </div>
    </form>
  );
}
