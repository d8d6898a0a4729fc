import { ActionIcon, Alert, Button, Modal, Tooltip } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { cluster } from "../../api/client";
import { explain } from "../../api/errors";
import { Line } from "../../frame/Line";
import type { JoinToken } from "../../gen/pollux/v1/cluster_pb";
import { dateTime, millis } from "../../model/value";
import { TrashIcon } from "../../shell/icons";
import { plural } from "./sentences";

interface Props {
  tokens: readonly JoinToken[];
  opened: boolean;
  onClose: () => void;
}

/** Makes a join token and shows the line to paste on the new machine; and the tokens that are still good. */
export function AddNode({ tokens, opened, onClose }: Props) {
  const queries = useQueryClient();
  const settled = () => queries.invalidateQueries({ queryKey: ["join tokens"] });
  const { mutate, data, isPending, error, reset } = useMutation({ mutationFn: () => cluster.createJoinToken({}), onSettled: settled });
  const revoke = useMutation({ mutationFn: (id: string) => cluster.revokeJoinToken({ id }), onSettled: settled });
  const close = () => {
    reset(); // the secret is shown once
    onClose();
  };
  const trouble = error ?? revoke.error;
  return (
    <Modal opened={opened} onClose={close} title="Add a node" size="lg" closeButtonProps={{ "aria-label": "Close" }}>
      <div className="stack">
        <p>
          A new node needs a join token, once: with it, it gets its certificate. It takes its share of the slots when it has joined, and
          a vote when it has been stable for a while.
        </p>
        {data ? (
          <>
            <p>Paste this line on the new machine, where the program pollux is:</p>
            <Line text={data.command} label="Line to paste" />
            <p className="muted">
              The token is shown only now. It is good until {dateTime(millis(data.expireTime))}, for any number of nodes.
            </p>
          </>
        ) : (
          <div className="actions">
            <span className="muted">Good for an hour. On a node’s own machine: pollux cluster token.</span>
            <Button loading={isPending} onClick={() => mutate()} data-autofocus>
              Create a join token
            </Button>
          </div>
        )}
        {trouble && (
          <Alert color="red" variant="light" role="alert">
            {explain(trouble)}
          </Alert>
        )}
        {tokens.length > 0 && (
          <section className="settings-box" aria-label="Tokens that are good">
            <h3>Tokens that are good</h3>
            {tokens.map((t) => (
              <div key={t.id} className="join-token">
                <code>{t.id}</code>
                <span className="muted">
                  by {t.by || "–"}, until {dateTime(millis(t.expireTime))}, {plural(t.used, "node")} joined
                </span>
                <Tooltip label="Revoke">
                  <ActionIcon variant="subtle" color="gray" aria-label={`Revoke ${t.id}`} onClick={() => revoke.mutate(t.id)}>
                    <TrashIcon />
                  </ActionIcon>
                </Tooltip>
              </div>
            ))}
          </section>
        )}
      </div>
    </Modal>
  );
}
