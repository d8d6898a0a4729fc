import { Textarea } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { explain } from "../../api/errors";
import { Trouble } from "../../frame/Room";
import { Foot } from "./Foot";
import type { Kind } from "../../live/changes";

interface Props {
  kind: Kind;
  /** The one that is changed; empty: a new one. */
  id: string;
  text: string;
  /** Told of each change of the text. */
  onText?: (text: string) => void;
  /** Stores the text; gives the id. */
  save: (text: string) => Promise<string>;
  remove: () => Promise<unknown>;
  onClose: (id: string) => void;
}

/** A record as YAML or JSON. What the node says of it is shown below; the text stays. */
export function TextEditor({ kind, id, text: first, onText, save, remove, onClose }: Props) {
  const client = useQueryClient();
  const [text, setText] = useState(first);
  const change = (to: string) => {
    setText(to);
    onText?.(to);
  };
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
      <Textarea label="YAML or JSON" autosize minRows={8} maxRows={28} spellCheck={false} classNames={{ input: "cel" }} value={text} onChange={(e) => change(e.currentTarget.value)} />
      <Trouble error={error && explain(error)} />
      <Foot kind={kind} id={id} pending={isPending} remove={remove} onClose={onClose} />
    </form>
  );
}
