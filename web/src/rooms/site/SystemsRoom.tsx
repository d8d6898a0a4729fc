import "./site.css";

import { Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { create } from "@bufbuild/protobuf";
import { useState } from "react";
import { Link, useLocation } from "wouter";

import { Records } from "../../frame/Records";
import { RoomHead } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { SystemSchema } from "../../gen/pollux/v1/site_pb";
import { useChanges } from "../../live/changes";
import { counted } from "../../model/list";
import { SystemDetail } from "./SystemDetail";
import { SystemForm } from "./SystemForm";
import { siteTabs, systemPath, useSystems } from "./tabs";

/** Twins that work together: started, stopped and called as one. */
export function SystemsRoom({ id }: { id?: string }) {
  useChanges("system", "systems");
  const queries = useQueryClient();
  const [, go] = useLocation();
  const [making, setMaking] = useState(false);
  const { data, isPending, error } = useSystems();
  const all = data ?? [];
  const chosen = all.find((s) => s.id === id);
  const again = () => queries.invalidateQueries({ queryKey: ["systems"] });
  return (
    <>
      <RoomHead title="Systems" tabs={siteTabs} note={counted(all, "system")} error={error}>
        <Button onClick={() => setMaking(true)}>New system</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <Records title="Systems" list={data} error={error} words={(s) => `${s.id} ${s.title}`}>
            {(s) => (
              <li key={s.id}>
                <Link href={systemPath(s.id)} className="list-item" aria-current={s.id === id ? "true" : undefined}>
                  <span>
                    <b>{s.title || s.id.slice(s.id.indexOf("/") + 1)}</b>
                    <code>{s.id}</code>
                  </span>
                  <span className="muted">{s.zone}</span>
                  <span className="pill">
                    {counted(s.members, "member")}
                  </span>
                </Link>
              </li>
            )}
          </Records>
        </div>
        <div className="split-detail">
          {making && (
            <section className="panel" aria-label="New system">
              <h2>New system</h2>
              <SystemForm
                system={create(SystemSchema, {})}
                onCancel={() => setMaking(false)}
                onSaved={async (made) => {
                  await again();
                  setMaking(false);
                  go(systemPath(made));
                }}
              />
            </section>
          )}
          {chosen ? (
            <SystemDetail
              key={chosen.id}
              system={chosen}
              onChanged={again}
              onDeleted={async () => {
                await again();
                go("/systems");
              }}
            />
          ) : (
            !making && (
              <div className="empty">
                <b>{id && !isPending ? `There is no system ${id}.` : "A system is a set of twins that work together."}</b>
                <span>Its members have names, such as Display_1 and Display_2. It can be started, stopped, and called as one.</span>
                <Try
                  lines={[
                    { what: "A hall with two displays", line: "pollux system put hall --member Display_1=beamer --member Display_2=screen" },
                    { what: "Both displays off, side by side", line: "pollux system call hall off --member Display" },
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
