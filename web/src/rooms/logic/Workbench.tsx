import { Button, Loader } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useMemo, useState } from "react";

import { drivers, twins } from "../../api/client";
import { explain, isNotFound } from "../../api/errors";
import { placeIn, raise, versionOf, type Place } from "../../code/place";
import { full } from "../../model/id";
import { TryPane } from "./TryPane";
import { sourceKey } from "./useLogics";

const CodePane = lazy(() => import("../../code/CodePane"));

interface Props {
  id: string;
  driver: string;
  /** What is deployed, or what a new one begins with; undefined: a module, whose source is not here. */
  source: string | undefined;
  /** It is not there yet. */
  fresh?: { system: string };
  onDone?: (id: string) => void;
}

const keyOf = (id: string) => `pollux.logic.${id}`;

/** A draft outlives the page, in this browser; one that keeps nothing is no reason to fail. */
function keep(id: string, draft: string | undefined) {
  try {
    if (draft === undefined) localStorage.removeItem(keyOf(id));
    else localStorage.setItem(keyOf(id), draft);
  } catch {
    // full, or forbidden
  }
}

function kept(id: string): string | undefined {
  try {
    return localStorage.getItem(keyOf(id)) ?? undefined;
  } catch {
    return undefined;
  }
}

/** The code of a logic beside what it would do. */
export function Workbench({ id, driver, source, fresh, onDone }: Props) {
  const [draft, setDraft] = useState(() => kept(id));
  const [at, setAt] = useState<Place>();
  const [said, setSaid] = useState<string>();
  const text = draft ?? source ?? "";
  const write = (to: string | undefined) => {
    const next = to === source ? undefined : to;
    setDraft(next);
    keep(id, next);
  };
  const deploy = useDeploy(id, driver, fresh, (made) => {
    write(undefined);
    onDone?.(made);
  });
  // What a try failed at is told beside it, and here where it has a place in the code.
  const trouble = deploy.error ? explain(deploy.error) : said && placeIn(said, "js") ? said : undefined;
  const wrong = trouble ? placeIn(trouble, "js") : undefined;
  const marks = useMemo(() => (wrong && trouble ? [{ ...wrong, text: trouble }] : []), [wrong?.line, wrong?.column, trouble]); // eslint-disable-line react-hooks/exhaustive-deps
  useEffect(() => {
    if (draft === undefined) return;
    const ask = (e: BeforeUnloadEvent) => e.preventDefault();
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [draft]);
  if (source === undefined) return <TryPane id={id} file={undefined} onError={() => undefined} />;
  return (
    <div
      className="logic-bench"
      onKeyDown={(e) => {
        if (!(e.ctrlKey || e.metaKey) || e.key !== "Enter") return;
        deploy.mutate(text);
        e.preventDefault();
      }}
    >
      <section aria-label="Code">
        <div className="toolbar">
          <b>{driver}.js</b>
          <span className="muted">
            version {versionOf(text) ?? "?"}
            {draft !== undefined && " · changed"}
          </span>
          <span className="head-end head-actions">
            {draft !== undefined && (
              <Button variant="subtle" color="gray" onClick={() => write(undefined)}>
                Discard
              </Button>
            )}
            <Button loading={deploy.isPending} disabled={draft === undefined && !fresh} onClick={() => deploy.mutate(text)} title="Ctrl-Enter">
              Deploy
            </Button>
          </span>
        </div>
        {trouble && (
          <p className="trouble trouble-inside" role="alert">
            {trouble}{" "}
            {wrong && (
              <Button variant="subtle" size="compact-xs" onClick={() => setAt({ ...wrong })}>
                Go to line {wrong.line}
              </Button>
            )}
            {/another file/.test(trouble) && (
              <Button
                variant="subtle"
                size="compact-xs"
                onClick={() => {
                  deploy.reset();
                  write(raise(text));
                }}
              >
                Make it version {versionOf(raise(text))}
              </Button>
            )}
          </p>
        )}
        <Suspense fallback={<Loader size="sm" m="md" aria-label="Loading" />}>
          <CodePane label="Source" kind="js" text={text} onText={write} marks={marks} at={at} />
        </Suspense>
      </section>
      <TryPane id={fresh ? "" : id} project={full(id).split("/")[0]} file={text} onError={setSaid} />
    </div>
  );
}

/** Uploads the file as a version, as `pollux logic push` does: the node makes what runs of it. Where there is no twin, one is made. */
function useDeploy(id: string, driver: string, fresh: { system: string } | undefined, onDone: (id: string) => void) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async (source: string) => {
      const res = await drivers.uploadDriver({ file: new TextEncoder().encode(source) });
      const name = res.driver?.name ?? driver;
      const made = name === driver ? id : `${full(id).split("/")[0]}/${name}`;
      if (fresh || made !== id) await makeTwin(made, name, fresh?.system ?? "");
      if (res.driver) queries.setQueryData(sourceKey(name, res.driver.version), source);
      await queries.invalidateQueries({ queryKey: ["logic"] });
      await queries.invalidateQueries({ queryKey: ["drivers"] });
      return { ...res, made };
    },
    onSuccess: ({ driver: d, staged, made }) => {
      const what = `${d?.name} ${d?.version}`;
      notifications.show({ color: "teal", message: staged ? `${what} is staged: a rollout goes on, which brings it no further by itself` : `${what} is deployed` });
      onDone(made);
    },
  });
}

/** The same again makes nothing. */
async function makeTwin(id: string, driver: string, system: string) {
  try {
    await twins.getTwin({ id });
  } catch (error) {
    if (!isNotFound(error)) throw error;
    await twins.createTwin({ twin: { id, driver, system } });
  }
}
