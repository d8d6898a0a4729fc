import "./topics.css";

import { Button, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link, useLocation } from "wouter";

import { topics } from "../../api/client";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Topic } from "../../gen/pollux/v1/topic_pb";
import { useChanges } from "../../live/changes";
import { counted } from "../../model/list";
import { full } from "../../model/id";
import { count } from "../../model/value";
import { TopicDetail } from "./TopicDetail";
import { deadEnd, topicPath, topicTabs, useTopics, useTopicState } from "./useTopics";

/** In a long list the owners are not asked for each topic's state; the topic's own page does. */
const told = 40;

/** Topics: what they hold, who reads them and how far, and what nobody could process. */
export function TopicsRoom({ id }: { id?: string }) {
  useChanges("topic", "topics topic");
  const { data, isPending, error } = useTopics();
  const all = data ?? [];
  const alive = all.filter((t) => !t.id.endsWith(deadEnd));
  const dead = new Set(all.filter((t) => t.id.endsWith(deadEnd)).map((t) => t.id.slice(0, -deadEnd.length)));
  const chosen = all.find((t) => t.id === id);
  return (
    <>
      <RoomHead title="Topics" tabs={topicTabs} note={counted(alive, "topic")} error={error} />
      <div className="split">
        <div className="split-list">
          <NewTopic />
          <Records title="Topics" list={data && alive} error={error} words={(t) => `${t.id} ${t.title}`}>
            {(t, i) => (
              <Item key={t.id} topic={t} chosen={t.id === id} dead={dead.has(t.id)} ask={i < told} />
            )}
          </Records>
        </div>
        <div className="split-detail">
          {chosen ? (
            <TopicDetail key={chosen.id} topic={chosen} hasDead={dead.has(chosen.id)} />
          ) : (
            <div className="empty">
              {id && !isPending ? <b>There is no topic {id}.</b> : <b>A topic keeps messages in their order, until its readers have them.</b>}
              <span>Readers share a channel and each get a part; another channel gets all messages too.</span>
              <Try
                lines={[
                  { what: "Make a topic, and have every change of a twin go there", line: "pollux topic create changes && pollux topic route put all --to changes" },
                  { what: "Publish, and look on", line: `pollux topic publish changes '{"hello":"world"}' && pollux topic tail changes --oldest` },
                ]}
              />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function Item({ topic, chosen, dead, ask }: { topic: Topic; chosen: boolean; dead: boolean; ask: boolean }) {
  const { data } = useTopicState(topic.id, ask, 3000);
  const letters = useTopicState(topic.id + deadEnd, ask && dead, 3000);
  const waiting = letters.data?.state?.messages ?? 0n;
  return (
    <li>
      <Link href={topicPath(topic.id)} className="list-item" aria-current={chosen ? "true" : undefined}>
        <span>
          <b>{topic.title || topic.id.slice(topic.id.indexOf("/") + 1)}</b>
          <code>{topic.id}</code>
        </span>
        <span className="muted">
          {topic.deleting ? "being deleted" : data?.state && `${data.state.channels} ${data.state.channels === 1 ? "channel" : "channels"}`}
        </span>
        {waiting > 0n && <span className="pill pill-bad">{count(waiting)} dead</span>}
        {data?.state && <span className="pill">{count(data.state.messages)}</span>}
      </Link>
    </li>
  );
}

function NewTopic() {
  const queries = useQueryClient();
  const [, go] = useLocation();
  const [name, setName] = useState("");
  const make = useMutation({
    mutationFn: () => topics.createTopic({ topic: { id: full(name) } }),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["topics"] });
      setName("");
      go(topicPath(name));
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate();
  };
  return (
    <form className="panel pad" onSubmit={submit} aria-label="New topic">
      <div className="one-line">
        <TextInput label="New topic" placeholder="orders, or project/orders" value={name} onChange={(e) => setName(e.currentTarget.value.trim())} />
        <Button type="submit" loading={make.isPending} disabled={!name}>
          Create
        </Button>
      </div>
      <Trouble error={make.error} />
    </form>
  );
}
