import "./ingest.css";

import { Button, Loader, Select } from "@mantine/core";
import { useState } from "react";

import { useProject } from "../../frame/project";
import { RoomHead } from "../../frame/Room";
import { Doors, Equation } from "./Doors";
import { Refusals } from "./Refusals";
import { Send } from "./Send";
import { ingestTabs } from "../../frame/ingestTabs";
import { useIngest } from "./useIngest";

/** What comes in: how much by which door, what became of it, and what was refused and why. */
export function IngestRoom() {
  const [project, setProject] = useProject();
  const [sending, setSending] = useState(false);
  const { data, error, isPending, looks } = useIngest();
  const all = data?.counts ?? [];
  const projects = [...new Set(all.map((c) => c.project))].sort();
  const counts = project ? all.filter((c) => c.project === project) : all;
  return (
    <>
      <RoomHead title="Ingest" tabs={ingestTabs(data?.inboxEntries)} error={error}>
        {(projects.length > 1 || project) && (
          <Select
            aria-label="Project"
            placeholder="All projects"
            clearable
            data={project && !projects.includes(project) ? [project, ...projects] : projects}
            value={project || null}
            onChange={(v) => setProject(v ?? "")}
          />
        )}
        {!isPending && all.length > 0 && (
          <Button variant="default" aria-expanded={sending} onClick={() => setSending(!sending)}>
            Send a message
          </Button>
        )}
      </RoomHead>
      <section className="panel" aria-label="Messages by door">
        <h2>
          What came in, and what became of it
          <span className="panel-tools muted">since the cluster began; exact</span>
        </h2>
        {isPending ? <Loader size="sm" m="md" aria-label="Loading" /> : <Equation counts={counts} />}
        {counts.length > 0 && <Doors counts={counts} looks={looks} />}
        {!isPending && counts.length === 0 && (
          <p className="muted pad">Nothing has come in yet. Send a first message below, or point a device at this node.</p>
        )}
      </section>
      {(sending || (!isPending && all.length === 0)) && <Send project={project} />}
      <Refusals project={project} />
    </>
  );
}
