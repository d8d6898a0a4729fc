import { Alert, Button, Modal, Tooltip } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { cluster } from "../../api/client";
import { explain } from "../../api/errors";
import type { Node } from "../../gen/pollux/v1/cluster_pb";
import { drainText, leaderText, nameOf, removable, removeText, takes, undrainText } from "./sentences";
import { useLookAgain } from "./useCluster";

interface Operation {
  title: string;
  /** The button that does it. */
  verb: string;
  /** What will happen. */
  text: string[];
  dangerous?: boolean;
  run: () => Promise<unknown>;
}

/** What an administrator can do with a node. Each asks first, and says what will happen. */
export function NodeActions({ node, nodes }: { node: Node; nodes: readonly Node[] }) {
  const [asked, setAsked] = useState<Operation>();
  const [opened, setOpened] = useState(false);
  const ask = (operation: Operation) => {
    setAsked(operation);
    setOpened(true);
  };
  const name = nameOf(node);
  const id = node.id;
  const leader = nodes.find((n) => n.role === "leader");
  const voters = nodes.filter((n) => n.role === "voter" && n.state !== "dead");
  const drain = drainText(node, nodes);
  const { ok, why } = removable(node);
  const gone = !takes(node) && node.state !== "draining";

  return (
    <div className="node-actions">
      {takes(node) && (
        <Guarded why={drain.length === 0 ? "No other node can take its slots: add one first." : ""}>
          <Button
            variant="default"
            size="compact-xs"
            disabled={drain.length === 0}
            onClick={() => ask({ title: `Drain ${name}?`, verb: "Drain", text: drain, run: () => cluster.drainNode({ node: id }) })}
          >
            Drain
          </Button>
        </Guarded>
      )}
      {node.state === "draining" && (
        <Button
          variant="default"
          size="compact-xs"
          onClick={() =>
            ask({ title: `Undrain ${name}?`, verb: "Undrain", text: undrainText(node, nodes), run: () => cluster.undrainNode({ node: id }) })
          }
        >
          Undrain
        </Button>
      )}
      {node.role === "leader" && voters.length > 0 && (
        <Button
          variant="default"
          size="compact-xs"
          onClick={() =>
            ask({ title: "Transfer leadership?", verb: "Transfer", text: leaderText("", name), run: () => cluster.transferLeadership({}) })
          }
        >
          Transfer leadership
        </Button>
      )}
      {node.role === "voter" && !gone && (
        <Button
          variant="default"
          size="compact-xs"
          onClick={() =>
            ask({
              title: `Let ${name} lead?`,
              verb: "Transfer",
              text: leaderText(name, leader ? nameOf(leader) : ""),
             
              run: () => cluster.transferLeadership({ node: id }),
            })
          }
        >
          Let it lead
        </Button>
      )}
      {(gone || node.state === "draining") && (
        <Guarded why={why}>
          <Button
            variant="default"
            size="compact-xs"
            disabled={!ok}
            onClick={() =>
              ask({ title: `Remove ${name}?`, verb: "Remove", text: removeText(node), dangerous: true, run: () => cluster.removeNode({ node: id }) })
            }
          >
            Remove
          </Button>
        </Guarded>
      )}
      <Confirm key={asked?.title} operation={asked} opened={opened} onClose={() => setOpened(false)} />
    </div>
  );
}

/** A button that cannot be pressed says why. */
function Guarded({ why, children }: { why: string; children: React.ReactElement }) {
  return (
    <Tooltip label={why} disabled={!why}>
      <span>{children}</span>
    </Tooltip>
  );
}

function Confirm({ operation, opened, onClose }: { operation: Operation | undefined; opened: boolean; onClose: () => void }) {
  const lookAgain = useLookAgain();
  const { mutate, isPending, error, reset } = useMutation({
    mutationFn: async () => operation?.run(),
    onSuccess: onClose,
    onSettled: () => lookAgain(),
  });
  const close = () => {
    reset();
    onClose();
  };
  return (
    <Modal opened={opened} onClose={close} title={operation?.title} size="md" closeButtonProps={{ "aria-label": "Close" }}>
      <div className="stack">
        {operation?.text.map((sentence) => (
          <p key={sentence}>{sentence}</p>
        ))}
        {error && (
          <Alert color="red" variant="light" role="alert">
            {explain(error)}
          </Alert>
        )}
        <div className="actions">
          <Button variant="default" onClick={close} data-autofocus>
            Leave it
          </Button>
          <Button color={operation?.dangerous ? "red" : undefined} loading={isPending} onClick={() => mutate()}>
            {operation?.verb}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
