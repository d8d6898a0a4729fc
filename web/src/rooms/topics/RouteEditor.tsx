import { Autocomplete, Button, Checkbox, MultiSelect, TagsInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { topics } from "../../api/client";
import { explain, infoOf } from "../../api/errors";
import { Ask } from "../../frame/Ask";
import { Cel } from "../../frame/Cel";
import { Trouble } from "../../frame/Room";
import type { Route } from "../../gen/pollux/v1/topic_pb";
import { useDrivers, useModelRecords, useZones } from "../../model/catalog";
import { full, split } from "../../model/id";
import { labelsOf, listOf } from "../../model/labels";
import { group } from "../../model/versions";
import { useLogics } from "../logic/useLogics";
import { deadEnd, useTopics } from "./useTopics";

/** Makes a route (null), or changes one. */
export function RouteEditor({ route, onClose }: { route: Route | null; onClose: () => void }) {
  const queries = useQueryClient();
  const { data: allTopics } = useTopics();
  const { data: zones } = useZones();
  const { data: drivers } = useDrivers();
  const { data: models } = useModelRecords();
  const { data: logics } = useLogics();
  const [id, setId] = useState(route?.id ?? "");
  const [to, setTo] = useState(route?.topics ?? []);
  const [twins, setTwins] = useState(route?.twins ?? []);
  const [zone, setZone] = useState(route?.zone ?? "");
  const [driver, setDriver] = useState(route?.driver ?? "");
  const [model, setModel] = useState(route?.model ?? "");
  const [labels, setLabels] = useState(listOf(route?.labels ?? {}));
  const [properties, setProperties] = useState(route?.properties ?? []);
  const [events, setEvents] = useState(route?.events ?? []);
  const [when, setWhen] = useState(route?.when ?? "");
  const [run, setRun] = useState(route?.run ?? "");
  const [terminate, setTerminate] = useState(route?.terminate ?? false);
  const [asking, setAsking] = useState(false);
  const project = split(full(id)).project;
  const again = () => queries.invalidateQueries({ queryKey: ["routes"] });
  const save = useMutation({
    mutationFn: () =>
      topics.putRoute({
        route: {
          id: full(id), topics: to, twins, zone, driver, model, properties, events, when, run, terminate,
          labels: labelsOf(labels),
          revision: route?.revision ?? 0n,
        },
      }),
    onSuccess: async () => {
      await again();
      onClose();
    },
  });
  const atWhen = save.error && (infoOf(save.error)?.path ?? "").endsWith("when");
  const choices = (allTopics ?? []).map((t) => t.id).filter((t) => !t.endsWith(deadEnd) && split(t).project === project);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <section className="panel" aria-label={route ? `Route ${route.id}` : "New route"}>
      <h2>{route ? <>Route {split(route.id).name}</> : "New route"}</h2>
      <form className="stack pad" onSubmit={submit} aria-label="Route">
        <div className="fields">
          <TextInput label="Name" description="routes are tried in the order of their names" placeholder="10-hot, or project/10-hot" withAsterisk disabled={route !== null} value={id} onChange={(e) => setId(e.currentTarget.value.trim())} />
          <MultiSelect label="To topics" description="of the same project" withAsterisk searchable data={[...new Set([...choices, ...to])]} placeholder={choices.length ? "" : "make a topic first"} value={to} onChange={setTo} />
          <TagsInput label="Only properties" description="Enter after each; none: all" value={properties} onChange={setProperties} />
          <TagsInput label="Only events" description="Enter after each; none: all" value={events} onChange={setEvents} />
          <TagsInput label="Only twins" description="names, Enter after each" value={twins} onChange={setTwins} />
          <Autocomplete label="In zone" description="and what is within it" data={(zones ?? []).map((z) => z.id).filter((z) => split(z).project === project)} value={zone} onChange={setZone} />
          <Autocomplete label="Of driver" description="by its name" data={group(drivers ?? []).map((g) => g.name)} value={driver} onChange={setDriver} />
          <Autocomplete label="Of model" description="by its id or title" data={(models ?? []).map((m) => m.id)} value={model} onChange={setModel} />
          <Autocomplete label="Through logic" description="it lets a message pass, replaces or stops it" data={(logics ?? []).map((l) => l.id).filter((l) => split(l).project === project)} value={run} onChange={setRun} />
          <TagsInput label="With labels" description="key=value, Enter" value={labels} onChange={(l) => setLabels(l.filter((x) => x.indexOf("=") > 0))} />
        </div>
        <Cel
          label="When"
          description={
            <>
              a condition over value, name, kind, twin, labels, time; such as <code>value &gt; 30.0</code>. Empty: always
            </>
          }
          value={when}
          onChange={setWhen}
          said={atWhen ? explain(save.error) : undefined}
        />
        <Checkbox label="What matches stops here: routes behind this one do not see it" checked={terminate} onChange={(e) => setTerminate(e.currentTarget.checked)} />
        {!atWhen && <Trouble error={save.error} />}
        <div className="actions">
          {route && (
            <Button variant="default" mr="auto" onClick={() => setAsking(true)}>
              Delete
            </Button>
          )}
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" loading={save.isPending} disabled={!id || to.length === 0}>
            {route ? "Save" : "Create"}
          </Button>
        </div>
      </form>
      <Ask
        opened={asking}
        onClose={() => setAsking(false)}
        title="Delete route"
        verb="Delete route"
        run={() => topics.deleteRoute({ id: route?.id ?? "" })}
        onDone={async () => {
          await again();
          onClose();
        }}
      >
        <b>{route?.id}</b> brings nothing to its topics any more. What is on its way arrives.
      </Ask>
    </section>
  );
}
