import { Button, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { projects } from "../../api/client";
import { useProject } from "../../frame/project";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { useChanges } from "../../live/changes";
import { useProjects } from "../../model/catalog";
import { counted } from "../../model/list";
import { count } from "../../model/value";
import { Item } from "../automation/Item";
import { ProjectDetail } from "./ProjectDetail";
import { projectTabs } from "./tabs";

/** The tenants of the cluster: what each has, what it takes, and what it does with messages and with its past. */
export function ProjectsRoom() {
  useChanges("project");
  const queries = useQueryClient();
  const [name, choose] = useProject();
  const [making, setMaking] = useState(false);
  const { data, error } = useProjects();
  const list = data ?? [];
  const chosen = list.find((p) => p.name === name);
  const again = () => queries.invalidateQueries({ queryKey: ["project"] });
  return (
    <>
      <RoomHead title="Projects" tabs={projectTabs} note={data && counted(list, "project")} error={error}>
        <Button onClick={() => setMaking(true)}>New project</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <Records title="Projects" list={data} error={error} words={(p) => p.name}>
            {(p) => (
              <Item
                key={p.name}
                id={p.name}
                title={p.name}
                note={p.settings?.revision ? "" : "with the usual settings"}
                pill={`${count(p.records.twin ?? 0n)} ${p.records.twin === 1n ? "twin" : "twins"}`}
                chosen={p.name === name}
                onChoose={() => choose(p.name)}
              />
            )}
          </Records>
        </div>
        <div className="split-detail">
          {making && (
            <NewProject
              onClose={async (made) => {
                setMaking(false);
                if (!made) return;
                await again();
                choose(made);
              }}
            />
          )}
          {chosen ? (
            <ProjectDetail
              key={chosen.name}
              project={chosen}
              again={again}
              onGone={async () => {
                await again();
                choose("");
              }}
            />
          ) : (
            !making && (
              <div className="empty">
                <b>{name && data ? `There is no project ${name}.` : "A project is a tenant: its name begins the ids of all that is in it."}</b>
                <span>It is there with its first twin. Its settings say what becomes of unknown senders, how long the past is kept, and what it may take.</span>
                <Try
                  lines={[
                    { what: "A project that takes a thousand twins at most", line: "pollux project create hotel && pollux project update hotel --quota twins=1000" },
                    { what: "A key that reaches nothing else", line: "pollux key create --role operator --project hotel" },
                  ]}
                />
              </div>
            )
          )}
        </div>
      </div>
    </>
  );
}

function NewProject({ onClose }: { onClose: (made: string) => unknown }) {
  const [name, setName] = useState("");
  const { mutate, isPending, error } = useMutation({ mutationFn: () => projects.createProject({ settings: { project: name } }), onSuccess: () => onClose(name) });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    mutate();
  };
  return (
    <section className="panel" aria-label="New project">
      <h2>New project</h2>
      <form className="stack pad" onSubmit={submit} aria-label="New project">
        <TextInput label="Name" description="lower-case letters, digits, dots and dashes" withAsterisk data-autofocus value={name} onChange={(e) => setName(e.currentTarget.value.trim())} />
        <Trouble error={error} />
        <div className="actions">
          <Button variant="default" onClick={() => onClose("")}>
            Cancel
          </Button>
          <Button type="submit" loading={isPending} disabled={!name}>
            Create
          </Button>
        </div>
      </form>
    </section>
  );
}
