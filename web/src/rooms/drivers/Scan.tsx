import type { JsonValue } from "@bufbuild/protobuf";
import { Alert, Button, NumberInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { drivers } from "../../api/client";
import { explain } from "../../api/errors";
import { counted } from "../../model/list";
import type { Manifest } from "../../model/thing";
import { check } from "../../schema/check";
import { SchemaForm } from "../../schema/Form";
import { initial, type Problems } from "../../schema/types";
import { Found } from "./Found";

/** Looks for devices of a driver in a network, by its manifest's scan. What is found is in the inbox, too. */
export function Scan({ driver, scan }: { driver: string; scan: NonNullable<Manifest["scan"]> }) {
  const queries = useQueryClient();
  const [network, setNetwork] = useState("");
  const [port, setPort] = useState<number>();
  const [wait, setWait] = useState<number>();
  const [options, setOptions] = useState<JsonValue | undefined>(() => scan.options && initial(scan.options));
  const [problems, setProblems] = useState<Problems>({});
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: () =>
      drivers.scan({
        driver,
        network: network.trim(),
        port: port ?? 0,
        timeout: wait === undefined ? undefined : { seconds: BigInt(Math.floor(wait)), nanos: Math.round((wait % 1) * 1e9) },
        optionsJson: options === undefined ? "" : JSON.stringify(options),
      }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["inbox"] }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const wrong = scan.options ? check(scan.options, options) : {};
    setProblems(wrong);
    if (Object.keys(wrong).length === 0) mutate();
  };
  return (
    <div className="stack pad">
      <form className="stack" aria-label="Find devices" noValidate onSubmit={submit}>
        <div className="fields">
          <TextInput
            label="Network"
            placeholder="10.0.0.0/24"
            description="at most 1,024 addresses; nothing outside of it is reached"
            value={network}
            onChange={(e) => setNetwork(e.currentTarget.value)}
          />
          <NumberInput
            label="Port"
            description="where they do not listen at the usual one"
            placeholder={scan.port ? String(scan.port) : undefined}
            min={1}
            max={65_535}
            allowDecimal={false}
            value={port ?? ""}
            onChange={(v) => setPort(typeof v === "number" ? v : undefined)}
          />
          <NumberInput
            label="Wait (s)"
            description="for answers, a minute at most"
            placeholder={String((scan.timeout_ms ?? 3000) / 1000)}
            min={0.1}
            max={60}
            value={wait ?? ""}
            onChange={(v) => setWait(typeof v === "number" ? v : undefined)}
          />
        </div>
        {scan.options && <SchemaForm schema={scan.options} value={options} onChange={setOptions} problems={problems} label="Options" />}
        <div className="actions">
          <Button type="submit" loading={isPending} disabled={!network.trim()}>
            Find devices
          </Button>
        </div>
      </form>
      {error && (
        <Alert color="red" variant="light" role="alert">
          {explain(error)}
        </Alert>
      )}
      {data && (
        <>
          <p className="muted" role="status">
            {data.sent} frames sent, {data.answers} answers, {counted(data.found, "device")} found.
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
