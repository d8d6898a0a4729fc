import { Autocomplete, Button, Checkbox, PasswordInput, Select, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { Trouble } from "../../frame/Room";
import { address, type Target } from "./kinds";

export interface Flow {
  id: string;
  title: string;
  url: string;
  secret: string;
  topic: string;
  oldest: boolean;
}

interface Props {
  what: string;
  targets: Target[];
  /** Topics to choose from; none: it has no topic. */
  topics?: string[];
  /** Stores it and gives its id. */
  save: (flow: Flow) => Promise<string>;
  onClose: (id: string) => void;
}

/** A way in or out, with the fields of its kind. */
export function FlowForm({ what, targets, topics, save, onClose }: Props) {
  const [kind, setKind] = useState(targets[0]!.name);
  const [id, setID] = useState("");
  const [title, setTitle] = useState("");
  const [topic, setTopic] = useState("");
  const [secret, setSecret] = useState("");
  const [secure, setSecure] = useState(false);
  const [oldest, setOldest] = useState(false);
  const [values, setValues] = useState<Record<string, string>>({});
  const target = targets.find((t) => t.name === kind)!;
  const url = address(target, values, secure);
  const make = useMutation({ mutationFn: () => save({ id, title, url, secret, topic, oldest }), onSuccess: onClose });
  const missing = !id || (topics && !topic) || target.parts.some((p) => p.required && !values[p.name]?.trim());
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={`New ${what}`}>
      <div className="fields">
        <TextInput label="Name" placeholder="lake, or project/lake" withAsterisk value={id} onChange={(e) => setID(e.currentTarget.value.trim())} />
        <TextInput label="Title" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        {topics && <Autocomplete label="Topic" withAsterisk data={topics} value={topic} onChange={setTopic} />}
        <Select label="Kind" data={targets.map((t) => t.name)} value={kind} onChange={(v) => v && setKind(v)} allowDeselect={false} />
      </div>
      <div className="fields">
        {target.parts.map((p) =>
          p.choices ? (
            <Select key={p.name} label={p.label} data={p.choices.map((c) => ({ value: c, label: c || "default" }))} value={values[p.name] ?? ""} onChange={(v) => setValues({ ...values, [p.name]: v ?? "" })} allowDeselect={false} />
          ) : (
            <TextInput key={p.name} label={p.label} placeholder={p.placeholder} withAsterisk={p.required} value={values[p.name] ?? ""} onChange={(e) => setValues({ ...values, [p.name]: e.currentTarget.value })} />
          ),
        )}
        {target.secret && <PasswordInput label={target.secret} description="sealed, and never shown again" autoComplete="off" value={secret} onChange={(e) => setSecret(e.currentTarget.value)} />}
      </div>
      {target.secure && <Checkbox label="Over TLS" checked={secure} onChange={(e) => setSecure(e.currentTarget.checked)} />}
      {topics && <Checkbox label="Begin with the oldest message that the topic keeps" checked={oldest} onChange={(e) => setOldest(e.currentTarget.checked)} />}
      <code aria-label="Address">{url}</code>
      <Trouble error={make.error} />
      <div className="actions">
        <Button variant="default" onClick={() => onClose("")}>
          Cancel
        </Button>
        <Button type="submit" loading={make.isPending} disabled={missing}>
          Create
        </Button>
      </div>
    </form>
  );
}
