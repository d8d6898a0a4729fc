import "./editor.css";

import { Alert, Button, Checkbox, Loader, Tabs, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useMemo, useState } from "react";
import { Link, useLocation } from "wouter";

import { drivers } from "../../../api/client";
import { explain } from "../../../api/errors";
import { keep, kept, same, type Draft } from "./draft";
import { nameOf, placeIn, raise, versionOf, type Place } from "../../../code/place";
import { Results } from "./Results";
import { begin } from "./template";
import { useRun } from "./useRun";

const CodePane = lazy(() => import("../../../code/CodePane"));

/** A driver in JavaScript: its source and its tests, run on the node against a played device, and deployed. */
export function EditorRoom({ name, version }: { name: string; version: string }) {
  const { data, error } = useQuery({
    queryKey: ["source", name, version],
    queryFn: ({ signal }) => drivers.getDriverSource({ name, version }, { signal }),
    staleTime: Infinity,
    retry: false,
  });
  const origin = useMemo<Draft | undefined>(() => data && { source: data.source, tests: data.tests.map(({ name, text }) => ({ name, text })) }, [data]);
  if (error) return <p className="trouble">{explain(error)}</p>;
  if (!origin) return <Loader size="sm" m="md" aria-label="Loading" />;
  return <Editor key={`${name}@${version}`} name={name} origin={origin} />;
}

/** Asks for the name of a new driver. */
export function NewDriver() {
  const [name, setName] = useState("");
  const [chosen, setChosen] = useState<string>();
  const origin = useMemo(() => (chosen ? begin(chosen) : undefined), [chosen]);
  if (chosen && origin) return <Editor name={chosen} origin={origin} fresh />;
  const fit = /^[a-z0-9][a-z0-9_-]{0,63}$/.test(name);
  return (
    <form
      className="panel new-driver"
      onSubmit={(e) => {
        e.preventDefault();
        if (fit) setChosen(name);
      }}
    >
      <h2>A new driver in JavaScript</h2>
      <TextInput
        label="Name"
        description="Small letters, digits, - and _."
        value={name}
        error={name && !fit ? "not a name" : undefined}
        onChange={(e) => setName(e.currentTarget.value)}
        autoFocus
      />
      <Button type="submit" disabled={!fit}>
        Begin
      </Button>
    </form>
  );
}

function Editor({ name, origin, fresh }: { name: string; origin: Draft; fresh?: boolean }) {
  const [draft, setDraft] = useState<Draft>(() => kept(name) ?? origin);
  const [tab, setTab] = useState(0);
  const [how, setHow] = useState({ shuffle: false, faults: false });
  const [at, setAt] = useState<{ file: string; place: Place }>();
  const { run, start } = useRun();
  const deploy = useDeploy(name, draft);
  const changed = fresh || !same(draft, origin);
  useEffect(() => keep(name, same(draft, origin) ? undefined : draft), [name, draft, origin]);
  useLeaving(changed);

  const file = draft.tests[tab];
  const source = `${name}.js`;
  const go = (to: string, place: Place) => {
    const i = draft.tests.findIndex((t) => t.name === to);
    if (i >= 0) setTab(i);
    setAt({ file: to, place });
  };
  const trouble = run.error ?? (deploy.error ? explain(deploy.error) : undefined);
  const wrong = trouble ? placeIn(trouble, "js") : undefined;
  const sourceMarks = useMemo(() => (wrong && trouble ? [{ ...wrong, text: trouble }] : []), [wrong?.line, wrong?.column, trouble]); // eslint-disable-line react-hooks/exhaustive-deps
  const testMarks = useMemo(
    () => run.results.flatMap((r) => (r.failure && r.file === file?.name ? [{ line: r.failure.line || r.line, text: r.failure.text }] : [])),
    [run.results, file?.name],
  );
  const test = () => void start(draft, how);
  const write = (text: string) => setDraft((d) => ({ ...d, tests: d.tests.map((t, i) => (i === tab ? { ...t, text } : t)) }));
  return (
    <div
      className="editor"
      onKeyDown={(e) => {
        if (!(e.ctrlKey || e.metaKey)) return;
        if (e.key === "s") test();
        else if (e.key === "Enter") deploy.mutate({ stage: false });
        else return;
        e.preventDefault();
      }}
    >
      <header className="room-head">
        <h1>
          <Link href={fresh ? "/drivers" : `/drivers/${name}`}>Drivers</Link> / {name}
        </h1>
        <span className="muted">
          version {versionOf(draft.source) ?? "?"}
          {changed && " · changed"}
        </span>
        <span className="head-actions">
          <Checkbox label="Fresh instances" size="xs" checked={how.shuffle} onChange={(e) => setHow({ ...how, shuffle: e.currentTarget.checked })} />
          <Checkbox label="Faults" size="xs" checked={how.faults} onChange={(e) => setHow({ ...how, faults: e.currentTarget.checked })} />
          <Button variant="default" loading={run.running} disabled={draft.tests.length === 0} onClick={test} title="Ctrl-S">
            Run tests
          </Button>
          <Button variant="default" loading={deploy.isPending} onClick={() => deploy.mutate({ stage: true })}>
            Stage
          </Button>
          <Button loading={deploy.isPending} onClick={() => deploy.mutate({ stage: false })} title="Ctrl-Enter">
            Deploy
          </Button>
          {changed && !fresh && (
            <Button variant="subtle" color="gray" onClick={() => setDraft(origin)}>
              Discard
            </Button>
          )}
        </span>
      </header>
      {trouble && (
        <Alert color="red" variant="light" role="alert">
          {trouble}{" "}
          {wrong && (
            <Button variant="subtle" size="compact-xs" onClick={() => setAt({ file: source, place: wrong })}>
              Go to line {wrong.line}
            </Button>
          )}
          {deploy.error && /another file/.test(explain(deploy.error)) && (
            <Button variant="subtle" size="compact-xs" onClick={() => setDraft((d) => ({ ...d, source: raise(d.source) }))}>
              Make it version {versionOf(raise(draft.source))}
            </Button>
          )}
        </Alert>
      )}
      <div className="editor-panes">
        <section className="panel" aria-label="Source">
          <h2>{source}</h2>
          <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
            <CodePane label="Source" kind="js" text={draft.source} onText={(text) => setDraft((d) => ({ ...d, source: text }))} marks={sourceMarks} at={at?.file === source ? at.place : undefined} />
          </Suspense>
        </section>
        <section className="panel" aria-label="Tests">
          <Tabs value={String(tab)} onChange={(v) => setTab(Number(v))}>
            <Tabs.List>
              {draft.tests.map((t, i) => (
                <Tabs.Tab key={t.name} value={String(i)}>
                  {t.name}
                </Tabs.Tab>
              ))}
            </Tabs.List>
          </Tabs>
          {file ? (
            <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
              <CodePane key={file.name} label="Tests" kind="yaml" text={file.text} onText={write} marks={testMarks} at={at?.file === file.name ? at.place : undefined} />
            </Suspense>
          ) : (
            <div className="empty">
              <b>It has no tests yet.</b>
              <Button variant="light" onClick={() => setDraft((d) => ({ ...d, tests: begin(name).tests }))}>
                Begin with an example
              </Button>
            </div>
          )}
          <Results run={run} go={go} />
        </section>
      </div>
    </div>
  );
}

function useDeploy(name: string, draft: Draft) {
  const queries = useQueryClient();
  const [, goTo] = useLocation();
  return useMutation({
    mutationFn: ({ stage }: { stage: boolean }) => drivers.uploadDriver({ file: new TextEncoder().encode(draft.source), stage, tests: draft.tests }),
    onSuccess: async ({ driver, staged }) => {
      keep(name, undefined);
      await queries.invalidateQueries({ queryKey: ["drivers"] });
      const what = `${driver?.name ?? nameOf(draft.source)} ${driver?.version}`;
      notifications.show({ color: "teal", message: staged ? `${what} is staged: a rollout brings it to twins` : `${what} is deployed` });
      goTo(`/drivers/${driver?.name}`);
    },
  });
}

/** The browser asks before what was written is left behind with the page. It is kept all the same. */
function useLeaving(changed: boolean) {
  useEffect(() => {
    if (!changed) return;
    const ask = (e: BeforeUnloadEvent) => e.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [changed]);
}
