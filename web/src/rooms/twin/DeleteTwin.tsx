import { Alert, Button, Modal, Text } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useLocation } from "wouter";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import type { Twin } from "../../gen/pollux/v1/twin_pb";

export function DeleteTwin({ twin, opened, onClose }: { twin: Twin; opened: boolean; onClose: () => void }) {
  const queries = useQueryClient();
  const [, go] = useLocation();
  const { mutate, isPending, error } = useMutation({
    mutationFn: () => twins.deleteTwin({ id: twin.id }),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["twins"] });
      go("/twins");
    },
  });
  return (
    <Modal opened={opened} onClose={onClose} title="Delete twin" size="sm" closeButtonProps={{ "aria-label": "Close" }}>
      <div className="stack">
        <Text size="sm">
          <b>{twin.id}</b> loses its settings and state and closes its connection. Its history stays until it is too old to be
          kept.
        </Text>
        {error && (
          <Alert color="red" variant="light" role="alert">
            {explain(error)}
          </Alert>
        )}
        <div className="actions">
          <Button variant="default" onClick={onClose} data-autofocus>
            Keep it
          </Button>
          <Button color="red" loading={isPending} onClick={() => mutate()}>
            Delete twin
          </Button>
        </div>
      </div>
    </Modal>
  );
}
