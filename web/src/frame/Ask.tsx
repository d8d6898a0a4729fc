import { Button, Modal } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { Trouble } from "./Room";

interface Props {
  opened: boolean;
  onClose: () => void;
  title: string;
  /** What will happen, in a sentence. */
  children: ReactNode;
  /** The button that does it. */
  verb: string;
  run: () => Promise<unknown>;
  onDone?: () => unknown;
}

/** A question before something that cannot be undone. The node's refusal is shown in it. */
export function Ask({ opened, onClose, title, children, verb, run, onDone }: Props) {
  const { mutate, isPending, error, reset } = useMutation({
    mutationFn: run,
    onSuccess: async () => {
      onClose();
      await onDone?.();
    },
  });
  const close = () => {
    reset();
    onClose();
  };
  return (
    <Modal opened={opened} onClose={close} title={title} size="sm" closeButtonProps={{ "aria-label": "Close" }}>
      <div className="stack">
        <div>{children}</div>
        <Trouble error={error} />
        <div className="actions">
          <Button variant="default" onClick={close} data-autofocus>
            Keep it
          </Button>
          <Button color="red" loading={isPending} onClick={() => mutate()}>
            {verb}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
