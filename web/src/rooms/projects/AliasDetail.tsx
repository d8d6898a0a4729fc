import { Button, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link } from "wouter";

import { aliases } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Line } from "../../frame/Line";
import { Trouble } from "../../frame/Room";
import { quote } from "../../frame/Try";
import { TwinInput } from "../../frame/TwinInput";
import type { NamedAlias } from "../../gen/pollux/v1/alias_pb";
import { twinPath } from "../../model/id";
import { Facts } from "../automation/Facts";
import { idOf } from "./alias";

interface Props {
  named: NamedAlias;
  onMoved: () => unknown;
  onGone: () => unknown;
}

/** One alias: whose it is, to whom else it shall go. */
export function AliasDetail({ named: m, onMoved, onGone }: Props) {
  const [moving, setMoving] = useState(false);
  const [asking, setAsking] = useState(false);
  const [twin, setTwin] = useState("");
  const { project, alias } = m;
  const move = useMutation({
    mutationFn: () => aliases.updateAlias({ project, named: { project, alias, twin } }),
    onSuccess: async () => {
      setMoving(false);
      await onMoved();
    },
  });
  const text = `${alias?.network}/${alias?.key}/${alias?.value}`;
  const address = ["/v1/ingest", project, alias?.network, alias?.key, alias?.value].map((x, i) => (i === 0 ? x : encodeURIComponent(x ?? ""))).join("/");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    move.mutate();
  };
  return (
    <section className="panel" aria-label={`Alias ${text}`}>
      <div className="detail-head">
        <div>
          <h2>
            {alias?.value} <code>{text}</code>
          </h2>
          <Facts
            list={[
              ["Twin", <Link key="twin" href={twinPath(m.twin)}>{m.twin}</Link>],
              ["Project", <Link key="project" href={`/projects?project=${encodeURIComponent(project)}`}>{project}</Link>],
              ["Network", alias?.network],
              ["Key", alias?.key],
              ["Value", alias?.value],
            ]}
          />
        </div>
        <span className="head-actions">
          <Button variant="default" onClick={() => setMoving(!moving)}>
            Give to another twin
          </Button>
          <Button variant="default" onClick={() => setAsking(true)}>
            Delete
          </Button>
        </span>
      </div>
      {moving && (
        <form className="stack pad" onSubmit={submit} aria-label="Give to another twin">
          <TwinInput label="Twin" visible project={project} value={twin} onChange={setTwin} />
          <p className="muted">What the sender says from then on goes to that twin. What {m.twin} has of it stays there.</p>
          <Trouble error={move.error} />
          <div className="actions">
            <Button variant="default" onClick={() => setMoving(false)}>
              Cancel
            </Button>
            <Button type="submit" loading={move.isPending} disabled={!twin}>
              Give
            </Button>
          </div>
        </form>
      )}
      <div className="pad">
        <p className="muted">A message of this sender</p>
        <Line text={`curl -sS -H "Authorization: Bearer $POLLUX_API_KEY" --json '{"…": 1}' ${quote(window.location.origin + address)}`} label="A message of this sender" />
      </div>
      <Ask opened={asking} onClose={() => setAsking(false)} title="Delete alias" verb="Delete alias" run={() => aliases.deleteAlias({ project, alias })} onDone={onGone}>
        What <b>{text}</b> says goes where unknown senders of {project} go. {m.twin} stays, with what it has.
      </Ask>
    </section>
  );
}

/** A twin gets one more outside name. */
export function NewAlias({ project: first, onClose }: { project: string; onClose: (made: string) => void }) {
  const [project, setProject] = useState(first);
  const [network, setNetwork] = useState("");
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const [twin, setTwin] = useState("");
  const alias = { network: network.trim(), key: key.trim(), value: value.trim() };
  const { mutate, isPending, error } = useMutation({
    mutationFn: () => aliases.createAlias({ project, named: { project, alias, twin } }),
    onSuccess: (made) => made.named && onClose(idOf(made.named)),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    mutate();
  };
  return (
    <section className="panel" aria-label="New alias">
      <h2>New alias</h2>
      <form className="stack pad" onSubmit={submit} aria-label="New alias">
        <div className="fields">
          <TextInput label="Project" withAsterisk value={project} onChange={(e) => setProject(e.currentTarget.value.trim())} />
          <TextInput label="Network" placeholder="lora" withAsterisk value={network} onChange={(e) => setNetwork(e.currentTarget.value)} />
          <TextInput label="Key" placeholder="deveui" withAsterisk value={key} onChange={(e) => setKey(e.currentTarget.value)} />
          <TextInput label="Value" placeholder="a84041" withAsterisk value={value} onChange={(e) => setValue(e.currentTarget.value)} />
          <TwinInput label="Twin" visible project={project} value={twin} onChange={setTwin} />
        </div>
        <Trouble error={error} />
        <div className="actions">
          <Button variant="default" onClick={() => onClose("")}>
            Cancel
          </Button>
          <Button type="submit" loading={isPending} disabled={!project || !alias.network || !alias.key || !alias.value || !twin}>
            Create
          </Button>
        </div>
      </form>
    </section>
  );
}
