import "./ingest.css";

import { Button, Checkbox, Loader, Tooltip } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { ingest, sites } from "../../api/client";
import { More } from "../../frame/More";
import { useWord } from "../../frame/address";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { InboxEntry } from "../../gen/pollux/v1/site_pb";
import { useNow } from "../../live/now";
import { split } from "../../model/id";
import { ago, bytes, count, dateTime, millis } from "../../model/value";
import { asText } from "../../model/wire";
import { Claim } from "./Claim";
import { ingestTabs } from "../../frame/ingestTabs";
import { Unknown } from "./Unknown";

/** Who sent something, or was found, and is no twin yet. */
export function InboxRoom() {
  const [chosenId, choose] = useWord("sender");
  const [ignored, setIgnored] = useState(false);
  const query = useInfiniteQuery({
    queryKey: ["inbox", "pages", ignored],
    queryFn: ({ pageParam, signal }) => sites.listInbox({ pageSize: 100, pageToken: pageParam, ignored }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    refetchInterval: 3000,
  });
  const status = useQuery({ queryKey: ["ingest status"], queryFn: ({ signal }) => ingest.getIngestStatus({}, { signal }), refetchInterval: 5000 });
  const all = query.data?.pages.flatMap((p) => p.entries) ?? [];
  const chosen = all.find((e) => e.id === chosenId);
  const project = split(chosenId || all[0]?.id || "default/").project;
  return (
    <>
      <RoomHead title="Inbox" tabs={ingestTabs(status.data?.inboxEntries)} error={query.error}>
        <Checkbox label="Show those that are ignored" checked={ignored} onChange={(e) => setIgnored(e.currentTarget.checked)} />
      </RoomHead>
      <p className="room-lead">Devices that sent something, or that a driver found, and that are no twin yet. What they send is counted and not lost from sight.</p>
      <div className="split">
        <div className="split-list">
          <section className="panel" aria-label="Unknown senders">
            <h2>Unknown senders</h2>
            {query.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
            {!query.isPending && all.length === 0 && <p className="muted pad">Nobody waits here.</p>}
            <ul className="list bounded">
              {all.map((e) => (
                <li key={e.id}>
                  <button type="button" className="plain list-item inbox-item" aria-current={e.id === chosenId ? "true" : undefined} onClick={() => choose(e.id)}>
                    <Sender entry={e} />
                  </button>
                </li>
              ))}
            </ul>
            <More query={query}>{count(all.length)} shown</More>
          </section>
        </div>
        <div className="split-detail">
          {chosen ? <Entry key={chosen.id} entry={chosen} onGone={() => choose("")} /> : <Nobody none={!query.isPending && all.length === 0} gone={chosenId} />}
          <Unknown key={project} project={project} from={chosen} />
        </div>
      </div>
    </>
  );
}

function Sender({ entry: e }: { entry: InboxEntry }) {
  const now = useNow();
  return (
    <>
      <span>
        <b>{e.alias?.value || e.name || e.id}</b>
        <code>{split(e.id).name}</code>
      </span>
      <span className="muted">
        {e.door || (e.via && `found by ${e.via}`) || e.driver} {ago(millis(e.lastTime ?? e.time), now)}
        {e.ignored && ", ignored"}
      </span>
      {e.count > 0n && (
        <span className="pill">
          {count(e.count)} {e.count === 1n ? "message" : "messages"}
        </span>
      )}
    </>
  );
}

function Nobody({ none, gone }: { none: boolean; gone: string }) {
  if (!none) return <div className="empty">{gone ? <b>{gone} is not in the inbox.</b> : <b>Choose a sender to see what it said.</b>}</div>;
  return (
    <div className="empty">
      <b>The inbox is empty.</b>
      <span>A message whose sender no twin has lands here, with what it said. Try one:</span>
      <Try
        lines={[
          { what: "Over HTTP, from the sender lora/eui/70b3d5", line: `curl -sS -H "Authorization: Bearer $POLLUX_API_KEY" --json '{"temperature":21.5}' ${window.location.origin}/v1/ingest/default/lora/eui/70b3d5` },
          { what: "What waits, in a terminal", line: "pollux inbox list" },
        ]}
      />
    </div>
  );
}

function Entry({ entry: e, onGone }: { entry: InboxEntry; onGone: () => void }) {
  const queries = useQueryClient();
  const ignore = useMutation({
    mutationFn: () => sites.ignoreInbox({ id: e.id, undo: e.ignored }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["inbox"] }),
  });
  return (
    <section className="panel" aria-label={`Sender ${e.id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {e.name || e.alias?.value} <code>{e.id}</code>
          </h2>
          <p className="muted">
            {count(e.count)} {e.count === 1n ? "message" : "messages"}; first {dateTime(millis(e.time))}
            {e.lastTime && `, last ${dateTime(millis(e.lastTime))} by ${e.door}`}
            {e.via && `; seen by ${e.via}`}
            {e.uri && `; at ${e.uri}`}
          </p>
        </div>
        <span className="head-actions">
          <Tooltip label={e.ignored ? "Show it in the list again" : "Hide it from the list; what it sends is still counted"}>
            <Button variant="default" loading={ignore.isPending} onClick={() => ignore.mutate()}>
              {e.ignored ? "Ignore no more" : "Ignore"}
            </Button>
          </Tooltip>
        </span>
      </div>
      <Trouble error={ignore.error} inside />
      {e.samples.length > 0 && (
        <div className="pad">
          <h3>What it said last</h3>
          <ol className="samples" aria-label="Samples" reversed>
            {[...e.samples].reverse().map((s, i) => (
              <li key={i}>
                <pre>
                  {asText(s)}
                  {s.length >= 256 && <span className="muted"> … first {bytes(s.length)}</span>}
                </pre>
              </li>
            ))}
          </ol>
        </div>
      )}
      <Claim entry={e} onClaimed={onGone} />
    </section>
  );
}
