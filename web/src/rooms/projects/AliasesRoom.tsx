import "./projects.css";

import { Autocomplete, Button, Loader, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { aliases } from "../../api/client";
import { More } from "../../frame/More";
import { useWord } from "../../frame/address";
import { useHome, useProject } from "../../frame/project";
import { RoomHead } from "../../frame/Room";
import { quote, Try } from "../../frame/Try";
import { TwinInput } from "../../frame/TwinInput";
import type { NamedAlias } from "../../gen/pollux/v1/alias_pb";
import { useChanges } from "../../live/changes";
import { useProjects } from "../../model/catalog";
import { split } from "../../model/id";
import { count } from "../../model/value";
import { Item } from "../automation/Item";
import { AliasDetail, NewAlias } from "./AliasDetail";
import { idOf } from "./alias";
import { projectTabs } from "./tabs";

/** The outside names of twins, by which messages find them: found, given, moved, taken. */
export function AliasesRoom() {
  const queries = useQueryClient();
  const [id, choose] = useWord("alias");
  const [making, setMaking] = useState(false);
  const find = useFind();
  const home = useHome();
  const { list, query } = useAliases(find, home);
  const chosen = list.find((m) => idOf(m) === id);
  const again = () => queries.invalidateQueries({ queryKey: ["alias"] });
  const done = async (next: string) => {
    setMaking(false);
    await again();
    choose(next);
  };
  const narrowed = find.project || find.network || find.twin || find.text;
  return (
    <>
      <RoomHead title="Aliases" tabs={projectTabs} note={query.data && `${count(list.length)}${query.hasNextPage ? " and more" : ""} ${narrowed ? "found" : list.length === 1 ? "alias" : "aliases"}`} error={query.error}>
        <Button onClick={() => setMaking(true)}>New alias</Button>
      </RoomHead>
      <p className="room-lead">An alias is what a device calls itself outside: a network, a key and a value. Messages of that sender go to its twin.</p>
      <div className="split">
        <div className="split-list">
          <section className="panel" aria-label="Aliases">
            <h2>Aliases</h2>
            <Filters find={find} />
            {query.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
            {query.data && list.length === 0 && <p className="muted pad">{narrowed ? "None is called so." : "None yet."}</p>}
            <ul className="list bounded">
              {list.map((m) => (
                <Item key={idOf(m)} id={`${m.alias?.network}/${m.alias?.key}`} title={m.alias?.value ?? ""} note={m.twin} chosen={idOf(m) === id} onChoose={() => choose(idOf(m))} />
              ))}
            </ul>
            <More query={query}>{count(list.length)} shown</More>
          </section>
        </div>
        <div className="split-detail">
          {making && <NewAlias project={find.project || home || "default"} onClose={(made) => void (made ? done(made) : setMaking(false))} />}
          {chosen ? <AliasDetail key={id} named={chosen} onMoved={again} onGone={() => done("")} /> : !making && <Nobody asked={id} find={find} />}
        </div>
      </div>
    </>
  );
}

type Find = ReturnType<typeof useFind>;

/** What the list is narrowed to; it lives in the address. */
function useFind() {
  const [project, setProject] = useProject();
  const [network, setNetwork] = useWord("network");
  const [twin, setTwin] = useWord("twin");
  const [text, setText] = useWord("text");
  return { project, setProject, network, setNetwork, twin, setTwin, text, setText };
}

function useAliases(find: Find, home: string) {
  useChanges("alias");
  useChanges("project");
  const { project, network, twin, text } = find;
  const [asked] = useDebouncedValue({ project, network, twin, text }, 150);
  // A network and a twin are of one project.
  const theirs = asked.twin.includes("/") ? split(asked.twin).project : asked.network || asked.twin ? home : "";
  const within = { ...asked, project: asked.project || theirs };
  const query = useInfiniteQuery({
    queryKey: ["alias", within],
    queryFn: ({ pageParam, signal }) => aliases.listAliases({ ...within, pageSize: 100, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
  });
  const list: NamedAlias[] = query.data?.pages.flatMap((p) => p.aliases) ?? [];
  return { list, query };
}

function Filters({ find: f }: { find: Find }) {
  const { data } = useProjects();
  return (
    <div className="alias-filter">
      <TextInput aria-label="Find an alias" placeholder="Find an alias" value={f.text} onChange={(e) => f.setText(e.currentTarget.value)} />
      <Autocomplete aria-label="Project" placeholder="Every project" data={(data ?? []).map((p) => p.name)} value={f.project} onChange={f.setProject} />
      <TextInput aria-label="Network" placeholder="Every network" value={f.network} onChange={(e) => f.setNetwork(e.currentTarget.value)} />
      <TwinInput label="Of twin" project={f.project} value={f.twin} onChange={f.setTwin} />
    </div>
  );
}

function Nobody({ asked, find }: { asked: string; find: Find }) {
  const project = find.project && ` --project ${quote(find.project)}`;
  return (
    <div className="empty">
      <b>{asked ? "There is no such alias in the list." : "Devices do not know the ids of their twins."}</b>
      <span>They say who they are in the words of their network. One alias is of one twin of a project; a twin has up to 32.</span>
      <Try
        lines={[
          { what: "Messages of a LoRa device go to meter-1", line: `pollux alias create lora/deveui/a84041 meter-1${project}` },
          { what: "Find some", line: `pollux alias list --text ${find.text ? quote(find.text) : "a8404"}${project}` },
          { what: "Many at once, of a CSV file with the columns network, key, value and twin", line: "pollux import aliases senders.csv --dry-run" },
        ]}
      />
    </div>
  );
}
