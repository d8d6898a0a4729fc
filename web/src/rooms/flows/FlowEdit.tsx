import { Autocomplete, Button, Checkbox, PasswordInput, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { Trouble } from "../../frame/Room";

/** What may be changed of a way in or out, and against which revision. */
export interface Change {
  id: string;
  revision: bigint;
  title: string;
  url: string;
  topic: string;
  /** Empty: it stays as it is. */
  secret: string;
  removeSecret: boolean;
}

interface Props {
  old: Omit<Change, "removeSecret"> & { hasSecret: boolean };
  /** Topics to choose from; none: it has no topic. */
  topics?: string[];
  save: (change: Change) => Promise<unknown>;
  onClose: () => unknown;
}

/** Changes a way in or out; it goes on where it is. */
export function FlowEdit({ old, topics, save, onClose }: Props) {
  const [title, setTitle] = useState(old.title);
  const [url, setURL] = useState(old.url);
  const [topic, setTopic] = useState(old.topic);
  const [secret, setSecret] = useState("");
  const [removeSecret, setRemoveSecret] = useState(false);
  const change = useMutation({ mutationFn: () => save({ id: old.id, revision: old.revision, title, url, topic, secret: removeSecret ? "" : secret, removeSecret }), onSuccess: onClose });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={`Change ${old.id}`}>
      <div className="fields">
        <TextInput label="Title" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        {topics && <Autocomplete label="Topic" description="another one is begun as this one was" withAsterisk data={topics} value={topic} onChange={setTopic} />}
        <PasswordInput
          label="Secret"
          description={old.hasSecret ? "empty: it stays, as long as the host does" : "sealed, and never shown again"}
          autoComplete="off"
          disabled={removeSecret}
          value={secret}
          onChange={(e) => setSecret(e.currentTarget.value)}
        />
        {old.hasSecret && <Checkbox mt="lg" label="Remove the secret" checked={removeSecret} onChange={(e) => setRemoveSecret(e.currentTarget.checked)} />}
      </div>
      <TextInput label="Address" withAsterisk spellCheck={false} value={url} onChange={(e) => setURL(e.currentTarget.value.trim())} />
      <Trouble error={change.error} />
      <div className="actions">
        <Button variant="default" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" loading={change.isPending} disabled={!url}>
          Save
        </Button>
      </div>
    </form>
  );
}
