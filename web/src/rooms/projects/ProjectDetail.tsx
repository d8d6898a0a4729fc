import { Button, Loader } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";

import { history, projects } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Trouble } from "../../frame/Room";
import { Uses } from "../../frame/Uses";
import { UnknownSenders, type ProjectSettings } from "../../gen/pollux/v1/ingest_pb";
import type { Project } from "../../gen/pollux/v1/project_pb";
import { count } from "../../model/value";
import { span } from "../../model/retention";
import { Facts } from "../automation/Facts";
import { Unknown } from "../ingest/Unknown";
import { SettingsForm } from "./SettingsForm";

interface Props {
  project: Project;
  again: () => Promise<unknown>;
  onGone: () => unknown;
}

/** One project: what is in it, what it takes, its settings. */
export function ProjectDetail({ project: p, again, onGone }: Props) {
  const [editing, setEditing] = useState<ProjectSettings>();
  const [asking, setAsking] = useState(false);
  const records = Object.entries(p.records).sort(([a], [b]) => a.localeCompare(b));
  return (
    <>
      <section className="panel" aria-label={`Project ${p.name}`}>
        <div className="detail-head">
          <div>
            <h2>{p.name}</h2>
            {records.length > 0 ? (
              <Facts list={records.map(([kind, n]) => [kind, <Found key={kind} project={p.name} kind={kind} n={n} />])} />
            ) : (
              <p className="muted">Nothing is in it yet.</p>
            )}
          </div>
          <span className="head-actions">
            <Button variant="default" onClick={() => setEditing(editing ? undefined : p.settings)}>
              Edit
            </Button>
            <Button variant="default" onClick={() => setAsking(true)}>
              Delete
            </Button>
          </span>
        </div>
        {editing ? (
          <SettingsForm
            key={String(editing.revision)}
            old={editing}
            onClose={async (saved) => {
              setEditing(undefined);
              if (saved) await again();
            }}
          />
        ) : (
          p.settings && (
            <div className="pad">
              <Facts list={settingsFacts(p.settings)} />
            </div>
          )
        )}
        <Ask opened={asking} onClose={() => setAsking(false)} title="Delete project" verb="Delete project" run={() => projects.deleteProject({ project: p.name })} onDone={onGone}>
          <b>{p.name}</b> loses its settings. A project that something is in stays; its history and its journal go as they get old.
        </Ask>
      </section>
      <Takes project={p.name} />
      {!editing && <Unknown project={p.name} />}
    </>
  );
}

/** What search knows; the inbox has a room, and what is due by itself is found with the rules. */
const rooms: Record<string, string> = { inbox: "/inbox" };

function Found({ project, kind, n }: { project: string; kind: string; n: bigint }) {
  const words = new URLSearchParams([
    ["facet", `project:${project}`],
    ["facet", `kind:${kind}`],
  ]);
  return <Link href={rooms[kind] ?? `/search?${words}`}>{count(n)}</Link>;
}

const unknown: Record<number, string> = { [UnknownSenders.REFUSE]: "refused", [UnknownSenders.PROVISION]: "made twins by rules" };

function settingsFacts(s: ProjectSettings): [string, string][] {
  const rules = s.journalRetention.length + s.sampleRetention.length;
  return [
    ["Unknown senders", unknown[s.unknownSenders] ?? "wait in the inbox"],
    ["Messages may be old", s.maxAge ? span(s.maxAge) : "30 d"],
    ["For history", s.maxHistoryAge ? span(s.maxHistoryAge) : "13 months"],
    ["Ahead", s.maxAhead ? span(s.maxAhead) : "10 min"],
    ["Retention", rules === 0 ? "as the cluster’s" : `${rules} ${rules === 1 ? "rule" : "rules"}`],
  ];
}

function Takes({ project }: { project: string }) {
  const { data, error, isPending } = useQuery({
    queryKey: ["retention", project, "use"],
    queryFn: ({ signal }) => history.getRetentionStatus({ project }, { signal }),
    refetchInterval: 5000,
  });
  return (
    <section className="panel" aria-label="What it takes">
      <h2>
        What it takes
        <span className="panel-tools">
          <Link href={`/retention?project=${encodeURIComponent(project)}`}>What would be deleted</Link>
        </span>
      </h2>
      {isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      <Trouble error={error} inside />
      {data && <Uses uses={data.uses} />}
    </section>
  );
}
