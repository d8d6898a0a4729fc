import { Button, SegmentedControl, Textarea, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { ingest } from "../../api/client";
import { Line } from "../../frame/Line";
import { useHome } from "../../frame/project";
import { Trouble } from "../../frame/Room";
import { quote } from "../../frame/Try";
import { IngestOutcome, type IngestResponse } from "../../gen/pollux/v1/ingest_pb";

/** Sends one message as a device would, and gives the line that does the same from a terminal. */
export function Send({ project: chosen }: { project: string }) {
  const queries = useQueryClient();
  const home = useHome();
  const project = chosen || home || "default";
  const [to, setTo] = useState<"sender" | "twin">("sender");
  const [sender, setSender] = useState("lora/eui/70b3d5");
  const [twin, setTwin] = useState("lobby");
  const [payload, setPayload] = useState('{"temperature": 21.5}');
  const send = useMutation({
    mutationFn: () => {
      const [network = "", key = "", ...value] = sender.split("/");
      const message = to === "twin" ? { twin } : { alias: { network, key, value: value.join("/") } };
      return ingest.ingest({ project, messages: [{ ...message, payload: new TextEncoder().encode(payload) }] });
    },
    onSuccess: () => Promise.all(["ingest status", "refusals", "inbox"].map((k) => queries.invalidateQueries({ queryKey: [k] }))),
  });
  const path = [project, ...(to === "twin" ? [twin] : sender.split("/"))].map(encodeURIComponent).join("/");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    send.mutate();
  };
  return (
    <section className="panel" aria-label="Send a message">
      <h2>Send a message</h2>
      <form className="stack pad" onSubmit={submit} aria-label="Message">
        <div className="send-to">
          <SegmentedControl
            aria-label="For"
            data={[
              { value: "sender", label: "From a sender" },
              { value: "twin", label: "For a twin" },
            ]}
            value={to}
            onChange={(v) => setTo(v as "sender" | "twin")}
          />
          {to === "twin" ? (
            <TextInput aria-label="Name of the twin" value={twin} onChange={(e) => setTwin(e.currentTarget.value.trim())} />
          ) : (
            <TextInput aria-label="Sender: network/key/value" title="network/key/value: how the device is called where it is" value={sender} onChange={(e) => setSender(e.currentTarget.value.trim())} />
          )}
        </div>
        <Textarea aria-label="What it says" autosize minRows={1} maxRows={8} spellCheck={false} value={payload} onChange={(e) => setPayload(e.currentTarget.value)} />
        <div className="actions">
          <span className="muted" role="status">
            {send.data && <Outcome answer={send.data} />}
          </span>
          <Button type="submit" loading={send.isPending}>
            Send
          </Button>
        </div>
        <Trouble error={send.error} />
        <p className="muted">
          The same from a device or a terminal, with a key of your own (<code>pollux key create</code>):
        </p>
        <Line
          label="Line to copy"
          text={`curl -sS -H "Authorization: Bearer $POLLUX_API_KEY" --json ${quote(payload)} ${window.location.origin}/v1/ingest/${path}`}
        />
      </form>
    </section>
  );
}

function Outcome({ answer }: { answer: IngestResponse }) {
  const result = answer.results[0];
  if (!result) return <b className="good">Stored.</b>;
  switch (result.outcome) {
    case IngestOutcome.INBOX:
      return <>Nobody knows this sender: it is in the inbox.</>;
    case IngestOutcome.DUPLICATE:
      return <>Taken before.</>;
    case IngestOutcome.REFUSED:
      return (
        <span className="bad">
          Refused: {result.code}, {result.reason}
        </span>
      );
    default:
      return <span className="bad">Not taken now{result.reason && `: ${result.reason}`}. Send it again.</span>;
  }
}
