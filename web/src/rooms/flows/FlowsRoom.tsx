import "../automation/automation.css";

import { Button } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";

import { useWord } from "../../frame/address";
import { Ask } from "../../frame/Ask";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble, type RoomTab } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { counted } from "../../model/list";
import { split } from "../../model/id";
import { Facts } from "../automation/Facts";
import { Item } from "../automation/Item";
import { FlowEdit, type Change } from "./FlowEdit";
import { FlowForm, type Flow } from "./FlowForm";
import type { Target } from "./kinds";

/** A way in or out as the room shows it. */
export interface Shown {
  id: string;
  revision: bigint;
  title: string;
  url: string;
  /** Of a sink: the topic that it reads. */
  topic: string;
  paused: boolean;
  hasSecret: boolean;
  note: string;
  error: string;
  facts: [string, ReactNode][];
}

interface Props {
  /** sink or source. */
  what: "sink" | "source";
  title: string;
  tabs: RoomTab[];
  list: Shown[] | undefined;
  error: unknown;
  targets: Target[];
  topics?: string[];
  why: string;
  line: string;
  create: (flow: Flow) => Promise<string>;
  change: (change: Change) => Promise<unknown>;
  pause: (id: string, paused: boolean) => Promise<unknown>;
  remove: (id: string) => Promise<unknown>;
  again: () => Promise<unknown>;
}

/** A room of ways in or out: what there is and how it does, and a form for another one. */
export function FlowsRoom(p: Props) {
  const [id, choose] = useWord(p.what);
  const list = p.list ?? [];
  const chosen = list.find((x) => x.id === id);
  const made = async (name: string) => {
    await p.again();
    choose(name);
  };
  return (
    <>
      <RoomHead title={p.title} tabs={p.tabs} note={p.list && counted(list, p.what)} error={p.error}>
        <Button onClick={() => choose("new")}>New {p.what}</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <Records title={p.title} list={p.list} error={p.error} words={(x) => `${x.id} ${x.title}`}>
            {(x) => (
              <Item key={x.id} id={x.id} title={x.title} note={x.note} pill={x.paused ? "paused" : x.error ? "failing" : undefined} bad={!x.paused} chosen={x.id === id} onChoose={() => choose(x.id)} />
            )}
          </Records>
        </div>
        <div className="split-detail">
          {id === "new" ? (
            <section className="panel" aria-label={`New ${p.what}`}>
              <h2>New {p.what}</h2>
              <FlowForm what={p.what} targets={p.targets} topics={p.topics} save={p.create} onClose={(name) => void made(name)} />
            </section>
          ) : chosen ? (
            <Detail key={chosen.id} shown={chosen} {...p} onGone={() => made("")} />
          ) : (
            <div className="empty">
              {id && p.list ? <b>There is no {p.what} {id}.</b> : <b>{p.why}</b>}
              <Try lines={[{ what: `Make a ${p.what}`, line: p.line }]} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function Detail({ shown: x, what, topics, change, pause, remove, again, onGone }: Props & { shown: Shown; onGone: () => unknown }) {
  const [asking, setAsking] = useState(false);
  const [editing, setEditing] = useState<Shown>();
  const hold = useMutation({ mutationFn: () => pause(x.id, !x.paused), onSettled: again });
  return (
    <section className="panel" aria-label={`${what === "sink" ? "Sink" : "Source"} ${x.id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {x.title || split(x.id).name} <code>{x.id}</code>
          </h2>
          <Facts list={x.facts} />
        </div>
        <span className="head-actions">
          <Button variant="default" loading={hold.isPending} onClick={() => hold.mutate()}>
            {x.paused ? "Resume" : "Pause"}
          </Button>
          <Button variant="default" onClick={() => setEditing(editing ? undefined : x)}>
            Edit
          </Button>
          <Button variant="default" onClick={() => setAsking(true)}>
            Delete
          </Button>
        </span>
      </div>
      <Trouble error={hold.error} inside />
      <Trouble error={x.error} inside />
      {editing ? (
        <FlowEdit
          old={{ ...editing, secret: "" }}
          topics={topics}
          save={change}
          onClose={() => {
            setEditing(undefined);
            return again();
          }}
        />
      ) : (
        <pre className="automation-text" aria-label="Address">
          {x.url}
          {x.hasSecret && "\nwith a secret, sealed"}
        </pre>
      )}
      <Ask opened={asking} onClose={() => setAsking(false)} title={`Delete ${what}`} verb={`Delete ${what}`} run={() => remove(x.id)} onDone={onGone}>
        <b>{x.id}</b> goes with its position. {what === "sink" ? "What it has delivered stays where it is." : "Its group's position stays in Kafka."}
      </Ask>
    </section>
  );
}
