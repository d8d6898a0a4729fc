import { Alert, Button, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { drivers } from "../../api/client";
import { explain } from "../../api/errors";
import { Found } from "./Found";

/** Looks for devices of a driver in a network. What is found is in the inbox, too. */
export function Scan({ driver }: { driver: string }) {
  const queries = useQueryClient();
  const [network, setNetwork] = useState("");
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: () => drivers.scan({ driver, network: network.trim() }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["inbox"] }),
  });
  return (
    <div className="stack pad">
      <form
        className="rollout-form"
        aria-label="Find devices"
        onSubmit={(e) => {
          e.preventDefault();
          mutate();
        }}
      >
        <TextInput
          label="Network"
          description="such as 10.0.0.0/24, at most 1,024 addresses; nothing outside of it is reached"
          value={network}
          onChange={(e) => setNetwork(e.currentTarget.value)}
        />
        <Button type="submit" loading={isPending} disabled={!network.trim()}>
          Find devices
        </Button>
      </form>
      {error && (
        <Alert color="red" variant="light" role="alert">
          {explain(error)}
        </Alert>
      )}
      {data && (
        <>
          <p className="muted" role="status">
            {data.sent} frames sent, {data.answers} answers, {data.found.length} {data.found.length === 1 ? "device" : "devices"} found.
          </p>
          <Found entries={data.found} label="Found" />
          {data.notes.map((note, i) => (
            <p key={i} className="muted">
              {note}
            </p>
          ))}
        </>
      )}
    </div>
  );
}
