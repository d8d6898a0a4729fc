import { Button } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import type { Twin } from "../../gen/pollux/v1/twin_pb";
import { warn } from "../../model/warn";
import { PauseIcon, PlayIcon } from "../../shell/icons";

/** A stopped twin keeps its state, drops its connection and takes no commands. */
export function StopButton({ twin }: { twin: Twin }) {
  const queries = useQueryClient();
  const { mutate, isPending } = useMutation({
    mutationFn: () => twins.updateTwin({ twin: { ...twin, state: undefined, stopped: !twin.stopped } }),
    onSuccess: ({ warnings }) => warn(twin.stopped ? "Started" : "Stopped", warnings),
    onError: (error) => notifications.show({ color: "red", message: explain(error) }),
    onSettled: () => queries.invalidateQueries({ queryKey: ["twin", twin.id] }),
  });
  return (
    <Button
      variant="default"
      loading={isPending}
      leftSection={twin.stopped ? <PlayIcon size={14} /> : <PauseIcon size={14} />}
      onClick={() => mutate()}
    >
      {twin.stopped ? "Start" : "Stop"}
    </Button>
  );
}
