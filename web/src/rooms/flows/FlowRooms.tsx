import { useQuery, useQueryClient } from "@tanstack/react-query";

import { sinks, sources } from "../../api/client";
import type { Sink } from "../../gen/pollux/v1/sink_pb";
import type { Source } from "../../gen/pollux/v1/source_pb";
import { useChanges } from "../../live/changes";
import { all } from "../../model/list";
import { full } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { deadEnd, topicTabs, useTopics } from "../topics/useTopics";
import { FlowsRoom, type Shown } from "./FlowsRoom";
import { sinkTargets, sourceTargets } from "./kinds";

/** The rooms of ways out and in, fetched by those who open one. */
export function FlowRooms({ room }: { room: "sinks" | "sources" }) {
  return room === "sinks" ? <SinksRoom /> : <SourcesRoom />;
}

const since = (error: string, time: number | undefined, failures: number) => error && `failing since ${dateTime(time)} (${failures} times): ${error}`;

function shownSink(m: Sink, place: number): Shown {
  const s = m.state;
  return {
    id: m.id,
    revision: m.revision,
    title: m.title,
    url: m.url,
    topic: m.topic,
    paused: m.paused,
    hasSecret: m.hasSecret,
    note: place < asked ? `${count(s?.lag ?? 0n)} behind` : `${count(s?.delivered ?? 0n)} delivered`,
    error: s ? since(s.error, millis(s.errorTime), s.failures) : "",
    facts: [
      ["Topic", m.topic],
      ["Delivered", count(s?.delivered ?? 0n)],
      ["Behind", place < asked ? count(s?.lag ?? 0n) : "–"],
      ["Refused", count(s?.refused ?? 0n)],
      ["Missed", count(s?.missed ?? 0n)],
      ["Last", s?.deliveredTime ? dateTime(millis(s.deliveredTime)) : "–"],
      ["Node", s?.node || "–"],
    ],
  };
}

/** How many sinks' topics are asked how much is left: the list itself does not. */
const asked = 50;

/** Sinks: ways out, how far they are, what they dropped and why they wait. */
function SinksRoom() {
  useChanges("sink", "sinks");
  const client = useQueryClient();
  const topics = useTopics();
  const { data, error } = useQuery({
    queryKey: ["sinks"],
    queryFn: async ({ signal }) => {
      const list = await all<Sink>(async (pageToken) => {
        const page = await sinks.listSinks({ pageSize: 1000, pageToken }, { signal });
        return { items: page.sinks, next: page.nextPageToken };
      });
      return Promise.all(list.map(async (m, place) => (place < asked ? ((await sinks.getSink({ id: m.id }, { signal })).sink ?? m) : m)));
    },
    refetchInterval: 2000,
  });
  return (
    <FlowsRoom
      what="sink"
      title="Sinks"
      tabs={topicTabs}
      list={data?.map(shownSink)}
      error={error}
      targets={sinkTargets}
      topics={(topics.data ?? []).map((t) => t.id).filter((id) => !id.endsWith(deadEnd))}
      why="A sink brings a topic's messages to another system, each at least once and in their order."
      line="pollux sink create lake --topic changes --to file:lake"
      create={async (f) => (await sinks.createSink({ sink: { id: full(f.id), title: f.title, topic: f.topic, url: f.url, secret: f.secret, oldest: f.oldest } })).sink?.id ?? ""}
      change={async ({ id, removeSecret, ...fields }) => {
        const { sink } = await sinks.getSink({ id });
        return sinks.updateSink({ sink: { ...sink, ...fields } as Sink, removeSecret });
      }}
      pause={async (id, paused) => {
        const { sink } = await sinks.getSink({ id });
        return sinks.updateSink({ sink: { ...sink, paused } as Sink });
      }}
      remove={(id) => sinks.deleteSink({ id })}
      again={() => client.invalidateQueries({ queryKey: ["sinks"] })}
    />
  );
}

function shownSource(m: Source): Shown {
  const s = m.state;
  return {
    id: m.id,
    revision: m.revision,
    title: m.title,
    url: m.url,
    topic: "",
    paused: m.paused,
    hasSecret: m.hasSecret,
    note: `${count(s?.read ?? 0n)} read`,
    error: s ? since(s.error, millis(s.errorTime), s.failures) : "",
    facts: [
      ["Read", count(s?.read ?? 0n)],
      ["Last", s?.readTime ? dateTime(millis(s.readTime)) : "–"],
      ["Node", s?.node || "–"],
    ],
  };
}

/** Sources: doors at which Pollux fetches messages itself. */
function SourcesRoom() {
  useChanges("source", "sources");
  const client = useQueryClient();
  const { data, error } = useQuery({
    queryKey: ["sources"],
    queryFn: ({ signal }) =>
      all<Source>(async (pageToken) => {
        const page = await sources.listSources({ pageSize: 1000, pageToken }, { signal });
        return { items: page.sources, next: page.nextPageToken };
      }),
    refetchInterval: 2000,
  });
  return (
    <FlowsRoom
      what="source"
      title="Sources"
      tabs={topicTabs}
      list={data?.map(shownSource)}
      error={error}
      targets={sourceTargets}
      why="A source fetches messages of devices from another system; they go the way of all messages."
      line="pollux source create plant --from kafka://kafka-1:9092/readings"
      create={async (f) => (await sources.createSource({ source: { id: full(f.id), title: f.title, url: f.url, secret: f.secret } })).source?.id ?? ""}
      change={async ({ id, revision, title, url, secret, removeSecret }) => {
        const { source } = await sources.getSource({ id });
        return sources.updateSource({ source: { ...source, revision, title, url, secret } as Source, removeSecret });
      }}
      pause={async (id, paused) => {
        const { source } = await sources.getSource({ id });
        return sources.updateSource({ source: { ...source, paused } as Source });
      }}
      remove={(id) => sources.deleteSource({ id })}
      again={() => client.invalidateQueries({ queryKey: ["sources"] })}
    />
  );
}
