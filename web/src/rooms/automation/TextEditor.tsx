import { Button, Textarea } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { explain } from "../../api/errors";
import { Ask } from "../../frame/Ask";
import { Trouble } from "../../frame/Room";
import type { Kind } from "./useAutomation";

interface Props {
  kind: Kind;
  /** The one that is changed; empty: a new one. */
  id: string;
  text: string;
  /** Stores the text; gives the id. */
  save: (text: string) => Promise<string>;
  remove: () => Promise<unknown>;
  onClose: (id: string) => void;
}

/** A record as YAML or JSON. What the node says of it is shown below; the text stays. */
export function TextEditor({ kind, id, text: first, save, remove, onClose }: Props) {
  const client = useQueryClient();
  const [text, setText] = useState(first);
  const [asking, setAsking] = useState(false);
  const again = () => client.invalidateQueries({ queryKey: [kind] });
  const { mutate, isPending, error } = useMutation({
    mutationFn: () => save(text),
    onSuccess: async (saved) => {
      await again();
      onClose(saved);
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={id ? `Change ${id}` : `New ${kind}`}>
      <Textarea label="YAML or JSON" autosize minRows={8} maxRows={28} spellCheck={false} classNames={{ input: "cel" }} value={text} onChange={(e) => setText(e.currentTarget.value)} />
      <Trouble error={error && explain(error)} />
      <div className="actions">
        {id && (
          <Button variant="default" mr="auto" onClick={() => setAsking(true)}>
            Delete
          </Button>
        )}
        <Button variant="default" onClick={() => onClose(id)}>
          Cancel
        </Button>
        <Button type="submit" loading={isPending}>
          {id ? "Save" : "Create"}
        </Button>
      </div>
      <Ask
        opened={asking}
        onClose={() => setAsking(false)}
        title={`Delete ${kind}`}
        verb={`Delete ${kind}`}
        run={remove}
        onDone={async () => {
          await again();
          onClose("");
        }}
      >
        <b>{id}</b> is gone with what it remembers. Actions that it began are not taken back.
      </Ask>
    </form>
  );
}
