import { Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { Ask } from "../../frame/Ask";
import type { Kind } from "../../live/changes";

interface Props {
  kind: Kind;
  /** The one that is changed; empty: a new one. */
  id: string;
  pending: boolean;
  remove: () => Promise<unknown>;
  onClose: (id: string) => void;
}

/** The buttons below what changes a record. */
export function Foot({ kind, id, pending, remove, onClose }: Props) {
  const client = useQueryClient();
  const [asking, setAsking] = useState(false);
  return (
    <>
      <div className="actions">
        {id && (
          <Button variant="default" mr="auto" onClick={() => setAsking(true)}>
            Delete
          </Button>
        )}
        <Button variant="default" onClick={() => onClose(id)}>
          Cancel
        </Button>
        <Button type="submit" loading={pending}>
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
          await client.invalidateQueries({ queryKey: [kind] });
          onClose("");
        }}
      >
        <b>{id}</b> is gone with what it remembers. Actions that it began are not taken back.
      </Ask>
    </>
  );
}
