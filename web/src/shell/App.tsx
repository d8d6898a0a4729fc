import { Center, Loader } from "@mantine/core";
import { lazy, Suspense, useEffect, useState } from "react";
import { Link, Redirect, Route, Switch, useLocation } from "wouter";

import { cluster } from "../api/client";
import { explain, passing } from "../api/errors";
import { report } from "../api/link";
import { signedIn, useSession } from "../api/session";
import { backoff } from "../api/stream";
import { RoomHead } from "../frame/Room";
import { ClusterRoom } from "../rooms/cluster/ClusterRoom";
import { EditorRoom, NewDriver } from "../rooms/drivers/editor/EditorRoom";
import { DriversRoom } from "../rooms/drivers/DriversRoom";
import { HistoryRoom } from "../rooms/history/HistoryRoom";
import { RetentionRoom } from "../rooms/history/RetentionRoom";
import { InboxRoom } from "../rooms/ingest/InboxRoom";
import { IngestRoom } from "../rooms/ingest/IngestRoom";
import { ModelsRoom } from "../rooms/models/ModelsRoom";
import { OverviewRoom } from "../rooms/overview/OverviewRoom";
import { AliasesRoom } from "../rooms/projects/AliasesRoom";
import { ProjectsRoom } from "../rooms/projects/ProjectsRoom";
import { SearchRoom } from "../rooms/search/SearchRoom";
import { RelationsRoom } from "../rooms/site/RelationsRoom";
import { SiteRoom } from "../rooms/site/SiteRoom";
import { SystemsRoom } from "../rooms/site/SystemsRoom";
import { RoutesRoom } from "../rooms/topics/RoutesRoom";
import { TopicsRoom } from "../rooms/topics/TopicsRoom";
import { TwinRoom } from "../rooms/twin/TwinRoom";
import { TwinsRoom } from "../rooms/twins/TwinsRoom";
import { Guard } from "./Guard";
import { Shell } from "./Shell";
import { SignIn } from "./SignIn";

/** Fetched by those who open them, with what reads YAML and CSV. */
const AnalyticsRoom = lazy(() => import("../rooms/analytics/AnalyticsRoom").then((m) => ({ default: m.AnalyticsRoom })));
const AutomationRooms = lazy(() => import("../rooms/automation/AutomationRooms").then((m) => ({ default: m.AutomationRooms })));
const ImportRoom = lazy(() => import("../rooms/import/ImportRoom").then((m) => ({ default: m.ImportRoom })));
const FlowRooms = lazy(() => import("../rooms/flows/FlowRooms").then((m) => ({ default: m.FlowRooms })));
const LogicRoom = lazy(() => import("../rooms/logic/LogicRoom").then((m) => ({ default: m.LogicRoom })));
const SimulatorRoom = lazy(() => import("../rooms/simulator/SimulatorRoom").then((m) => ({ default: m.SimulatorRoom })));

/** Asks the node once who we are; every later refusal comes through the transport. */
function useFirstCall() {
  const session = useSession();
  const [trouble, setTrouble] = useState<string>();
  useEffect(() => {
    if (session !== "unknown") return;
    let failures = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ended = new AbortController();
    const ask = async () => {
      try {
        await cluster.getStatus({}, { signal: ended.signal });
        signedIn();
      } catch (error) {
        if (ended.signal.aborted) return;
        setTrouble(explain(error));
        if (passing(error)) timer = setTimeout(() => void ask(), backoff(++failures));
      }
    };
    void ask();
    return () => {
      ended.abort();
      clearTimeout(timer);
      report("first", null);
    };
  }, [session]);
  return { session, trouble };
}

export function App() {
  const { session, trouble } = useFirstCall();
  const [path] = useLocation();
  if (session === "out") return <SignIn />;
  if (session === "unknown") {
    return (
      <Center mih="100dvh" className="muted">
        {trouble ?? <Loader size="sm" aria-label="Loading" />}
      </Center>
    );
  }
  return (
    <Shell>
      <Guard path={path}>
        <Switch>
          <Route path="/twins/:project/:name">
            {({ project, name }) => <TwinRoom key={`${project}/${name}`} id={`${decode(project)}/${decode(name)}`} />}
          </Route>
          <Route path="/twins">
            <TwinsRoom />
          </Route>
          <Route path="/drivers-new">
            <NewDriver />
          </Route>
          <Route path="/drivers/:name/:version/edit">{({ name, version }) => <EditorRoom name={decode(name)} version={decode(version)} />}</Route>
          <Route path="/drivers/:name?">{({ name }) => <DriversRoom name={name && decode(name)} />}</Route>
          <Route path="/models/:project/:name">
            {({ project, name }) => <ModelsRoom id={`${decode(project)}/${decode(name)}`} />}
          </Route>
          <Route path="/models">
            <ModelsRoom />
          </Route>
          <Route path="/ingest">
            <IngestRoom />
          </Route>
          <Route path="/inbox">
            <InboxRoom />
          </Route>
          <Route path="/history">
            <HistoryRoom />
          </Route>
          <Route path="/retention">
            <RetentionRoom />
          </Route>
          <Route path="/import">
            <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
              <ImportRoom />
            </Suspense>
          </Route>
          <Route path="/topics/:project/:name">
            {({ project, name }) => <TopicsRoom id={`${decode(project)}/${decode(name)}`} />}
          </Route>
          <Route path="/topics">
            <TopicsRoom />
          </Route>
          <Route path="/routes">
            <RoutesRoom />
          </Route>
          {(["rules", "schedules", "alarms", "notifiers"] as const).map((room) => (
            <Route key={room} path={`/${room}`}>
              <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
                <AutomationRooms room={room} />
              </Suspense>
            </Route>
          ))}
          {(["sinks", "sources"] as const).map((room) => (
            <Route key={room} path={`/${room}`}>
              <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
                <FlowRooms room={room} />
              </Suspense>
            </Route>
          ))}
          <Route path="/analytics">
            <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
              <AnalyticsRoom />
            </Suspense>
          </Route>
          <Route path="/logic">
            <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
              <LogicRoom />
            </Suspense>
          </Route>
          <Route path="/simulations">
            <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
              <SimulatorRoom />
            </Suspense>
          </Route>
          <Route path="/search">
            <SearchRoom />
          </Route>
          <Route path="/site">
            <SiteRoom />
          </Route>
          <Route path="/systems/:project/:name">
            {({ project, name }) => <SystemsRoom id={`${decode(project)}/${decode(name)}`} />}
          </Route>
          <Route path="/systems">
            <SystemsRoom />
          </Route>
          <Route path="/relations">
            <RelationsRoom />
          </Route>
          <Route path="/projects">
            <ProjectsRoom />
          </Route>
          <Route path="/aliases">
            <AliasesRoom />
          </Route>
          <Route path="/cluster">
            <ClusterRoom />
          </Route>
          {/* Where the machines were shown before they were a cluster. */}
          <Route path="/nodes">
            <Redirect to="/cluster" replace />
          </Route>
          <Route path="/overview">
            <OverviewRoom />
          </Route>
          <Route path="/">
            <Redirect to="/overview" replace />
          </Route>
          <Route>
            <Nowhere path={path} />
          </Route>
        </Switch>
      </Guard>
    </Shell>
  );
}

/** What an address shows that leads to no room. */
function Nowhere({ path }: { path: string }) {
  return (
    <>
      <RoomHead title="No such page" />
      <div className="empty">
        <p>
          There is no room at <code>{path}</code>.
        </p>
        <Link href="/overview">Overview</Link>
      </div>
    </>
  );
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
