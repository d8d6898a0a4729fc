import { Autocomplete, Button, Table, Tabs, Textarea } from "@mantine/core";
import type { JsonValue } from "@bufbuild/protobuf";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link } from "wouter";

import { sites, twins } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Held } from "../../frame/Held";
import { Trouble } from "../../frame/Room";
import type { MemberResult, System } from "../../gen/pollux/v1/site_pb";
import { Outcome } from "../../gen/pollux/v1/twin_pb";
import { useModels } from "../../model/catalog";
import { split, twinPath } from "../../model/id";
import { outcomes } from "../../model/outcomes";
import { StatusBadge } from "../../model/StatusBadge";
import { plain, show, wrap } from "../../model/value";
import { SystemForm } from "./SystemForm";

interface Props {
  system: System;
  onChanged: () => unknown;
  onDeleted: () => unknown;
}

/** One system: how its members are, and what can be done with all of them at once. */
export function SystemDetail({ system, onChanged, onDeleted }: Props) {
  const { id } = system;
  const [asking, setAsking] = useState(false);
  const [results, setResults] = useState<{ what: string; list: MemberResult[] }>();
  const members = useQuery({
    queryKey: ["twins", "of system", id],
    queryFn: async ({ signal }) => (await twins.listTwins({ filter: { system: id }, pageSize: 1000, state: true }, { signal })).twins,
    refetchInterval: 3000,
  });
  const turn = useMutation({
    mutationFn: async (on: boolean) => {
      const { results: list } = on ? await sites.startSystem({ id }) : await sites.stopSystem({ id });
      return { what: on ? "Start" : "Stop", list };
    },
    onSuccess: setResults,
    onSettled: () => members.refetch(),
  });
  const byId = new Map((members.data ?? []).map((t) => [t.id, t]));
  const modelOf = useModels();
  const actions = [...new Set((members.data ?? []).flatMap((t) => modelOf(t)?.actions.map((a) => a.name) ?? []))].sort();
  return (
    <section className="panel" aria-label={`System ${id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {system.title || split(id).name} <code>{id}</code>
          </h2>
          {system.zone && (
            <p>
              in <Link href={`/site?zone=${encodeURIComponent(system.zone)}`}>{system.zone}</Link>
            </p>
          )}
        </div>
        <span className="head-actions">
          <Button variant="default" loading={turn.isPending && turn.variables} onClick={() => turn.mutate(true)}>
            Start all
          </Button>
          <Button variant="default" loading={turn.isPending && !turn.variables} onClick={() => turn.mutate(false)}>
            Stop all
          </Button>
          <Button variant="default" onClick={() => setAsking(true)}>
            Delete
          </Button>
        </span>
      </div>
      <Trouble error={members.error ?? turn.error} inside />
      <Tabs defaultValue="members" keepMounted={false} className="detail-tabs">
        <Tabs.List>
          <Tabs.Tab value="members">Members</Tabs.Tab>
          <Tabs.Tab value="settings">Settings</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="members">
          {system.members.length === 0 && <p className="muted pad">No member yet: add them in Settings.</p>}
          {system.members.length > 0 && (
            <>
              <Table verticalSpacing={5} aria-label="Members">
                <Table.Tbody>
                  {system.members.map((m) => {
                    const twin = byId.get(m.twin);
                    const result = results?.list.find((r) => r.name === m.name);
                    return (
                      <Table.Tr key={m.name} aria-label={m.name}>
                        <Table.Td>
                          <b>{m.name}</b>
                        </Table.Td>
                        <Table.Td>
                          <Link href={twinPath(m.twin)}>{m.twin}</Link>
                        </Table.Td>
                        <Table.Td>{twin ? <StatusBadge status={twin.state?.status} stopped={twin.stopped} /> : <span className="muted">{members.isPending ? "…" : "not there"}</span>}</Table.Td>
                        <Table.Td>{result && <Result what={results?.what ?? ""} result={result} />}</Table.Td>
                      </Table.Tr>
                    );
                  })}
                </Table.Tbody>
              </Table>
              <Call system={system} actions={actions} onResults={setResults} />
            </>
          )}
        </Tabs.Panel>
        <Tabs.Panel value="settings">
          <Held record={system} revision={system.revision}>
            {(held, release) => (
              <SystemForm
                system={held}
                onSaved={() => {
                  release();
                  return onChanged();
                }}
              />
            )}
          </Held>
        </Tabs.Panel>
      </Tabs>
      <Ask opened={asking} onClose={() => setAsking(false)} title="Delete system" verb="Delete system" run={() => sites.deleteSystem({ id })} onDone={onDeleted}>
        <b>{id}</b> goes, with what is set for it. Its members stay as they are.
      </Ask>
    </section>
  );
}

function Result({ what, result: r }: { what: string; result: MemberResult }) {
  if (r.error) return <span className="bad">{r.error}</span>;
  if (what === "Start" || what === "Stop") return <span className="muted">{r.changed ? (what === "Start" ? "started" : "stopped") : "was so already"}</span>;
  const output = plain(r.output);
  return (
    <span className={r.outcome === Outcome.DONE ? "good" : "bad"}>
      {what}: {outcomes[r.outcome]}
      {output !== undefined && output !== null && `, ${show(output)}`}
    </span>
  );
}

interface CallProps {
  system: System;
  actions: string[];
  onResults: (results: { what: string; list: MemberResult[] }) => void;
}

/** Runs an action of all members, or of those of a kind. */
function Call({ system, actions, onResults }: CallProps) {
  const [action, setAction] = useState("");
  const [member, setMember] = useState("");
  const [input, setInput] = useState("");
  const kinds = [...new Set(system.members.flatMap((m) => [m.name.replace(/_\d+$/, ""), m.name]))];
  const call = useMutation({
    mutationFn: async () => {
      const { results } = await sites.invokeSystem({ id: system.id, action, member, input: input.trim() ? wrap(JSON.parse(input) as JsonValue) : undefined });
      return { what: action, list: results };
    },
    onSuccess: onResults,
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    call.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label="Call">
      <h3>Call all at once</h3>
      <div className="fields">
        <Autocomplete label="Action" data={actions} value={action} onChange={(name) => setAction(name.trim())} />
        <Autocomplete label="Of" placeholder="all members" data={kinds} value={member} onChange={setMember} />
        <Textarea label="Input" placeholder="JSON, or nothing" autosize minRows={1} value={input} onChange={(e) => setInput(e.currentTarget.value)} />
      </div>
      <Trouble error={call.error instanceof SyntaxError ? `Input is no JSON: ${call.error.message}` : call.error} />
      <div className="actions">
        <Button type="submit" loading={call.isPending} disabled={!action}>
          Call
        </Button>
      </div>
    </form>
  );
}
