import "./twin.css";

import { ActionIcon, Button, Loader, Tabs } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Link, useSearchParams } from "wouter";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import { Held } from "../../frame/Held";
import type { Twin, TwinState } from "../../gen/pollux/v1/twin_pb";
import { useLiveState } from "../../live/store";
import { useModels } from "../../model/catalog";
import { arranged } from "../../model/rank";
import { inOrder, parseModel, unknownProperty, type Model, type PropertyModel } from "../../model/thing";
import { chartable, plain } from "../../model/value";
import { BackIcon } from "../../shell/icons";
import { Actions } from "./Actions";
import { DeleteTwin } from "./DeleteTwin";
import { Feed } from "./Feed";
import { Health } from "./Health";
import { HistoryChart } from "./HistoryChart";
import { LinkPanel } from "./LinkPanel";
import { Properties } from "./Properties";
import { SettingsTab } from "./SettingsTab";
import { StopButton } from "./StopButton";
import { TwinHead } from "./TwinHead";
import { useTwinWatch, type TwinWatch } from "./useTwinWatch";
import { Wire } from "./Wire";

/** One twin: what its device says, what was asked of it, what it can do, and every byte on its wire. */
export function TwinRoom({ id }: { id: string }) {
  const { data, error, isPending } = useQuery({
    queryKey: ["twin", id],
    queryFn: ({ signal }) => twins.getTwin({ id, model: true }, { signal }),
    // What a wish waits for, and what the connection moved, the watch does not tell.
    refetchInterval: ({ state }) => (state.data?.twin?.state?.queued ? 2000 : 5000),
  });
  const watch = useTwinWatch(id);
  const twin = data?.twin;
  // A watch tells of what changes; a read is the whole, and may be newer.
  useEffect(() => watch.states.seed(id, twin?.state), [watch.states, id, twin?.state]);

  if (!twin || watch.deleted) {
    return (
      <div className="empty">
        {isPending && !watch.deleted ? (
          <Loader size="sm" aria-label="Loading" />
        ) : (
          <>
            <b>{watch.deleted ? `${id} was deleted.` : explain(error)}</b>
            <Button component={Link} href="/twins" variant="default">
              All twins
            </Button>
          </>
        )}
      </div>
    );
  }
  return <Loaded twin={twin} watch={watch} />;
}

function Loaded({ twin, watch }: { twin: Twin; watch: TwinWatch }) {
  const [params, setParams] = useSearchParams();
  const tab = params.get("tab") ?? "live";
  const [deleting, setDeleting] = useState(false);
  const state = useLiveState(watch.states, twin.id) ?? twin.state;
  const model = useTwinModel(twin);

  return (
    <>
      <header className="room-head">
        <ActionIcon component={Link} href="/twins" variant="subtle" color="gray" aria-label="All twins">
          <BackIcon />
        </ActionIcon>
        <TwinHead twin={twin} state={state} title={model.title} />
        <div className="head-actions">
          <StopButton twin={twin} />
          <Button variant="default" onClick={() => setDeleting(true)}>
            Delete
          </Button>
        </div>
      </header>
      <Health twin={twin} state={state} />
      <Tabs
        value={tab}
        onChange={(t) => setParams(t && t !== "live" ? { tab: t } : {}, { replace: true })}
        keepMounted={false}
        className="twin-tabs"
      >
        <Tabs.List>
          <Tabs.Tab value="live">Live</Tabs.Tab>
          <Tabs.Tab value="wire">Wire</Tabs.Tab>
          <Tabs.Tab value="settings">Settings</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="live">
          <Live twin={twin} watch={watch} model={model} />
        </Tabs.Panel>
        <Tabs.Panel value="wire">
          <Wire id={twin.id} />
        </Tabs.Panel>
        <Tabs.Panel value="settings">
          <Held record={twin} revision={twin.revision}>
            {(held, release) => <SettingsTab twin={held} release={release} />}
          </Held>
        </Tabs.Panel>
      </Tabs>
      <DeleteTwin twin={twin} opened={deleting} onClose={() => setDeleting(false)} />
    </>
  );
}

function Live({ twin, watch, model }: { twin: Twin; watch: TwinWatch; model: Model }) {
  const state = useLiveState(watch.states, twin.id) ?? twin.state;
  // What is computed and has no value yet is a property all the same.
  const names = [...new Set([...Object.keys(state?.properties ?? {}), ...Object.keys(twin.derived)])].sort().join("\n");
  // The model's properties, then those that the twin has beyond its model.
  const properties = useMemo(() => {
    const known = new Set(model.properties.map((p) => p.name));
    const others = names.split("\n").filter((name) => name && !known.has(name));
    return [...model.properties, ...others.map((name) => unknownProperty(name, true))];
  }, [model, names]);
  const [picked, setPicked] = useState<string>();
  const drawn = properties.find((p) => p.name === picked) ?? liveliest(properties, state);

  return (
    <div className="twin-grid">
      <div className="twin-main">
        <Properties twin={twin} state={state} properties={properties} drawn={drawn?.name} onDraw={setPicked} />
        <Feed id={twin.id} feed={watch.feed} />
      </div>
      <div className="twin-side">
        {drawn && (
          <HistoryChart key={drawn.name} id={twin.id} property={drawn} current={state?.properties[drawn.name]} samples={watch.samples} />
        )}
        <Actions id={twin.id} actions={model.actions} queued={state?.queued ?? 0} commands={state?.commands ?? []} stopped={twin.stopped} />
        <LinkPanel twin={twin} />
      </div>
    </div>
  );
}

/** What a chart shows unasked: a measured number, else a count, else a switch. */
function liveliest(properties: PropertyModel[], state: TwinState | undefined): PropertyModel | undefined {
  const known = properties.filter((p) => p.numeric && chartable(plain(state?.properties[p.name]?.value)) !== undefined);
  return known.find((p) => p.schema.type === "number") ?? known.find((p) => p.schema.type !== "boolean") ?? known[0];
}

/** The model that the twin refined, else its driver's, arranged for a reader. */
function useTwinModel(twin: Twin): Model {
  const modelOf = useModels();
  const refined = twin.state?.modelJson;
  return useMemo(() => {
    const written = modelOf(twin);
    const model = parseModel(refined) ?? written ?? { title: "", properties: [], actions: [], events: [] };
    return { ...model, properties: arranged(model, written), actions: inOrder(model.actions, written?.actions) };
  }, [refined, modelOf, twin]);
}
