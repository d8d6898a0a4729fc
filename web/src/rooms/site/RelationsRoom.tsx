import "./site.css";

import type { JsonObject } from "@bufbuild/protobuf";
import { ActionIcon, Autocomplete, Button, JsonInput, Loader, Modal, Table, TextInput, Tooltip } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link } from "wouter";

import { relations } from "../../api/client";
import { useWord } from "../../frame/address";
import { Ask } from "../../frame/Ask";
import { More } from "../../frame/More";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { TwinInput } from "../../frame/TwinInput";
import type { Relation } from "../../gen/pollux/v1/relation_pb";
import { useChanges } from "../../live/changes";
import { split, twinPath } from "../../model/id";
import { TrashIcon } from "../../shell/icons";
import { siteTabs, systemPath } from "./tabs";

/** Typed links between twins, zones and systems; and walks along them. */
export function RelationsRoom() {
  useChanges("relation", "relations walk");
  const queries = useQueryClient();
  const [of, setOf] = useWord("of");
  const [type, setType] = useWord("type");
  const [going, setGoing] = useState<Relation>();
  const [changing, setChanging] = useState<Relation>();
  const query = useInfiniteQuery({
    queryKey: ["relations", of, type],
    queryFn: ({ pageParam, signal }) => relations.listRelations({ of, type, pageSize: 100, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    refetchInterval: 5000,
    placeholderData: keepPreviousData,
  });
  const all = query.data?.pages.flatMap((p) => p.relations) ?? [];
  const again = () => Promise.all(["relations", "walk"].map((k) => queries.invalidateQueries({ queryKey: [k] })));
  const types = [...new Set(all.map((r) => r.type))].sort();
  return (
    <>
      <RoomHead title="Relations" tabs={siteTabs} note="what one thing is to another" error={query.error} />
      <Walk project={split(all[0]?.from.replace(/^(zone|system):/, "") ?? "x").project} />
      <NewRelation types={types} onMade={again} />
      <section className="panel" aria-label="Relations">
        <h2>
          Relations
          <span className="panel-tools">
            <TextInput aria-label="Of" placeholder="of default/pump, zone:default/hq …" value={of} onChange={(e) => setOf(e.currentTarget.value.trim())} w={210} />
            <Autocomplete aria-label="Type" placeholder="every type" data={types} value={type} onChange={setType} w={140} />
          </span>
        </h2>
        {query.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
        {!query.isPending && !query.error && all.length === 0 && (
          <div className="empty">
            <b>{of || type ? "No relation of that kind." : "No relation yet."}</b>
            <span>A pump feeds a boiler, a meter measures a floor: the words are yours.</span>
            <Try
              lines={[
                { what: "Make one", line: "pollux relation create pump feeds boiler --title 'Main loop'" },
                { what: "Walk along it", line: "pollux walk default/pump/@feeds" },
              ]}
            />
          </div>
        )}
        {all.length > 0 && (
          <div className="scroll-x">
            <Table verticalSpacing={5} aria-label="Relations">
              <Table.Tbody>
                {all.map((r) => (
                  <Table.Tr key={r.id} aria-label={r.id}>
                    <Table.Td>
                      <Thing end={r.from} />
                    </Table.Td>
                    <Table.Td className="relation-arrow">
                      <b>{r.type}</b> →
                    </Table.Td>
                    <Table.Td>
                      <Thing end={r.to} />
                    </Table.Td>
                    <Table.Td>
                      {r.title} {r.attributes && Object.keys(r.attributes).length > 0 && <code>{JSON.stringify(r.attributes)}</code>}
                    </Table.Td>
                    <Table.Td className="num nowrap">
                      <Button variant="default" size="compact-xs" mr={4} aria-label={`Edit ${r.id}`} onClick={() => setChanging(r)}>
                        Edit
                      </Button>
                      <Tooltip label="Delete">
                        <ActionIcon variant="subtle" color="gray" aria-label={`Delete ${r.id}`} onClick={() => setGoing(r)}>
                          <TrashIcon />
                        </ActionIcon>
                      </Tooltip>
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </div>
        )}
        <More query={query} />
      </section>
      {changing && <Change key={changing.id} relation={changing} onClose={() => setChanging(undefined)} onDone={again} />}
      <Ask opened={going !== undefined} onClose={() => setGoing(undefined)} title="Delete relation" verb="Delete relation" run={() => relations.deleteRelation({ id: going?.id ?? "" })} onDone={again}>
        {going?.from} <b>{going?.type}</b> {going?.to}: both stay, the link goes.
      </Ask>
    </>
  );
}

/** A link to what is at an end: a twin, `zone:ID` or `system:ID`. */
function Thing({ end }: { end: string }) {
  const [, kind, id = end] = /^(zone|system):(.*)$/.exec(end) ?? [];
  const href = kind === "zone" ? `/site?zone=${encodeURIComponent(id)}` : kind === "system" ? systemPath(id) : twinPath(id);
  return (
    <>
      {kind && <span className="muted">{kind} </span>}
      <Link href={href}>{id}</Link>
    </>
  );
}

/** What may be changed of a relation: its ends and its type are what it is. */
function Change({ relation: r, onClose, onDone }: { relation: Relation; onClose: () => void; onDone: () => unknown }) {
  const [title, setTitle] = useState(r.title);
  const [attributes, setAttributes] = useState(() => JSON.stringify(r.attributes ?? {}, null, 2));
  const save = useMutation({
    mutationFn: () => relations.updateRelation({ relation: { ...r, title, attributes: object(attributes) } }),
    onSuccess: () => {
      onClose();
      return onDone();
    },
  });
  return (
    <Modal opened onClose={onClose} title="Change relation" closeButtonProps={{ "aria-label": "Close" }}>
      <form
        className="stack"
        aria-label="Change relation"
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate();
        }}
      >
        <p>
          {r.from} <b>{r.type}</b> {r.to}
        </p>
        <TextInput label="Title" description="for people" value={title} onChange={(e) => setTitle(e.currentTarget.value)} data-autofocus />
        <JsonInput label="Attributes" description="a JSON object" autosize minRows={3} value={attributes} onChange={setAttributes} />
        <Trouble error={save.error} />
        <div className="actions">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={save.isPending}>
            Save
          </Button>
        </div>
      </form>
    </Modal>
  );
}

/** Reads a JSON object that somebody wrote. */
function object(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text || "{}");
  } catch (error) {
    throw new Error(`The attributes are no JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("The attributes are no JSON object, such as {\"length\": 12}.");
  return value as JsonObject;
}

function NewRelation({ types, onMade }: { types: string[]; onMade: () => unknown }) {
  const [from, setFrom] = useState("");
  const [type, setType] = useState("");
  const [to, setTo] = useState("");
  const [title, setTitle] = useState("");
  const make = useMutation({
    mutationFn: () => relations.createRelation({ relation: { from, type, to, title } }),
    onSuccess: () => {
      setTo("");
      setTitle("");
      return onMade();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate();
  };
  return (
    <section className="panel" aria-label="New relation">
      <h2>Relate two things</h2>
      <form className="stack pad" onSubmit={submit} aria-label="New relation">
        <div className="fields">
          <TwinInput label="From" visible description="a twin, zone:ID or system:ID" project="" value={from} onChange={(v) => setFrom(v.trim())} />
          <Autocomplete label="Type" description="what it is to the other" placeholder="feeds" data={types} value={type} onChange={setType} />
          <TwinInput label="To" visible description="a twin, zone:ID or system:ID" project="" value={to} onChange={(v) => setTo(v.trim())} />
          <TextInput label="Title" description="for people" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        </div>
        <Trouble error={make.error} />
        <div className="actions">
          <Button type="submit" loading={make.isPending} disabled={!from || !type || !to}>
            Relate
          </Button>
        </div>
      </form>
    </section>
  );
}

/** A walk, a word after the other: each thing that is found leads on. */
function Walk({ project }: { project: string }) {
  const [path, setPath] = useWord("walk");
  const [typed, setText] = useState<string>();
  const [seen, setSeen] = useState(path);
  if (seen !== path) {
    setSeen(path);
    setText(undefined);
  }
  const text = typed ?? (path || project);
  const query = useQuery({
    queryKey: ["walk", path],
    queryFn: ({ signal }) => relations.walk({ path, pageSize: 100 }, { signal }),
    enabled: path !== "",
  });
  const to = (word: string) => setPath(`${path}/${word}`);
  const w = query.data;
  const none = w && w.zones.length + w.systems.length + w.twins.length + w.typesFrom.length + w.typesTo.length === 0;
  return (
    <section className="panel" aria-label="Walk">
      <h2>Walk</h2>
      <div className="pad stack">
        <form
          className="walk-line"
          aria-label="Walk"
          onSubmit={(e) => {
            e.preventDefault();
            setPath(text.trim());
          }}
        >
          <TextInput aria-label="Path" placeholder="default/hq/cellar/pump/@feeds" value={text} onChange={(e) => setText(e.currentTarget.value)} />
          <Button type="submit" variant="default" loading={query.isFetching && query.isPending}>
            Go
          </Button>
        </form>
        <Trouble error={query.error} />
        {path === "" && <p className="muted">A project, then zones and twins by their names; @feeds goes along relations of that type, @-feeds against them.</p>}
        {w && (
          <ul className="walk-found" aria-label="Found">
            {path.includes("/") && (
              <li>
                <button type="button" onClick={() => setPath(path.slice(0, path.lastIndexOf("/")))}>
                  ← back
                </button>
              </li>
            )}
            {w.zones.map((z) => (
              <li key={z.id}>
                <button type="button" onClick={() => to(split(z.id).name)}>
                  {z.title || split(z.id).name} <span className="muted">{z.kind || "zone"}</span>
                </button>
              </li>
            ))}
            {w.systems.map((s) => (
              <li key={s.id}>
                <button type="button" onClick={() => to(`system:${split(s.id).name}`)}>
                  {s.title || split(s.id).name} <span className="muted">system</span>
                </button>
              </li>
            ))}
            {w.twins.map((t) => (
              <li key={t.id}>
                <button type="button" onClick={() => to(split(t.id).name)}>
                  {split(t.id).name} <span className="muted">twin</span>
                </button>
              </li>
            ))}
            {w.typesFrom.map((t) => (
              <li key={`@${t}`}>
                <button type="button" data-kind="step" onClick={() => to(`@${t}`)}>
                  {t} →
                </button>
              </li>
            ))}
            {w.typesTo.map((t) => (
              <li key={`@-${t}`}>
                <button type="button" data-kind="step" onClick={() => to(`@-${t}`)}>
                  ← {t}
                </button>
              </li>
            ))}
            {none && <li className="muted">Nothing further.</li>}
          </ul>
        )}
        {w?.twin && (
          <p>
            <Link href={twinPath(w.twin.id)}>Open {w.twin.id}</Link>
          </p>
        )}
      </div>
    </section>
  );
}
