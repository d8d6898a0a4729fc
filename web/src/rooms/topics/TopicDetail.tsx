import { Button, Tabs } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation } from "wouter";

import { topics } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Held } from "../../frame/Held";
import { Trouble } from "../../frame/Room";
import type { Topic } from "../../gen/pollux/v1/topic_pb";
import { bytes, count, number } from "../../model/value";
import { Channels } from "./Channels";
import { DeadLetters } from "./DeadLetters";
import { Limits } from "./Limits";
import { Messages } from "./Messages";
import { deadEnd, useTopicState } from "./useTopics";

/** One topic: what it holds, its channels, its messages as they come, and its dead letters. */
export function TopicDetail({ topic, hasDead }: { topic: Topic; hasDead: boolean }) {
  const { id } = topic;
  const queries = useQueryClient();
  const [, go] = useLocation();
  const [asking, setAsking] = useState(false);
  const { data, error } = useTopicState(id);
  const letters = useTopicState(id + deadEnd, hasDead);
  const state = data?.state;
  const rate = useRate(state?.nextOffset);
  const dead = letters.data?.state?.messages ?? 0n;
  const facts: [string, string, string][] = [
    ["Messages", state ? count(state.messages) : "…", "kept now"],
    ["Size", state ? bytes(state.bytes) : "…", "of all messages"],
    ["Per second", rate === undefined ? "…" : number(rate), "published"],
    ["Newest", state ? count(state.nextOffset - 1n) : "…", "offset of the newest message; they count from 1"],
    ["Trimmed", state ? count(state.trimmed) : "…", "removed by the topic’s limits"],
    ["Repeated", state ? count(state.duplicates) : "…", "known by their id and not stored again"],
  ];
  return (
    <section className="panel" aria-label={`Topic ${id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {topic.title || id} {topic.title && <code>{id}</code>}
          </h2>
          <dl className="facts topic-facts">
            {facts.map(([name, value, what]) => (
              <div key={name} title={what}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </div>
        <span className="head-actions">
          <Button variant="default" onClick={() => setAsking(true)}>
            Delete
          </Button>
        </span>
      </div>
      <Trouble error={error} inside />
      <Tabs defaultValue="messages" keepMounted={false} className="detail-tabs">
        <Tabs.List>
          <Tabs.Tab value="messages">Messages</Tabs.Tab>
          <Tabs.Tab value="channels">Channels{state && state.channels > 0 ? ` ${state.channels}` : ""}</Tabs.Tab>
          <Tabs.Tab value="dead">Dead letters{dead > 0n ? ` ${count(dead)}` : ""}</Tabs.Tab>
          <Tabs.Tab value="limits">Limits</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="messages">
          <Messages id={id} />
        </Tabs.Panel>
        <Tabs.Panel value="channels">
          <Channels id={id} />
        </Tabs.Panel>
        <Tabs.Panel value="dead">
          <DeadLetters
            list={id + deadEnd}
            count={dead}
            none="No dead letters: what readers give up lands here with the reason."
            again={async (limit) => `${count((await topics.replayDeadLetters({ topic: id, limit })).replayed)} published again`}
          />
        </Tabs.Panel>
        <Tabs.Panel value="limits">
          <Held record={topic} revision={topic.revision}>
            {(held, release) => <Limits topic={held} release={release} />}
          </Held>
        </Tabs.Panel>
      </Tabs>
      <Ask
        opened={asking}
        onClose={() => setAsking(false)}
        title="Delete topic"
        verb="Delete topic"
        run={() => topics.deleteTopic({ id })}
        onDone={async () => {
          await queries.invalidateQueries({ queryKey: ["topics"] });
          go("/topics");
        }}
      >
        <b>{id}</b> goes with its {state ? count(state.messages) : ""} messages and its channels. Its dead letters stay.
      </Ask>
    </section>
  );
}

/** How fast a counter rises, per second, between the last two different looks. */
function useRate(value: bigint | undefined): number | undefined {
  const [looks, setLooks] = useState<{ time: number; value: bigint }[]>([]);
  const [now] = useState(() => () => Date.now());
  const last = looks.at(-1);
  if (value !== undefined && (!last || last.value !== value)) setLooks([...looks, { time: now(), value }].slice(-2));
  const [a, b] = looks;
  if (!a) return undefined;
  if (!b || b.time <= a.time) return 0;
  return Math.round((Number(b.value - a.value) / ((b.time - a.time) / 1000)) * 10) / 10;
}
