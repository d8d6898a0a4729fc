import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { notifiers } from "../../api/client";
import { useWord } from "../../frame/address";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { NotificationState, type Notifier } from "../../gen/pollux/v1/notify_pb";
import { all, counted } from "../../model/list";
import { split } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { Facts } from "../automation/Facts";
import { Item } from "../automation/Item";
import { useChanges } from "../../live/changes";
import { automationTabs } from "../automation/useAutomation";
import { kindOf, kinds, whereTo } from "./draft";
import { Lanes } from "./Lanes";
import { NotifierForm } from "./NotifierForm";
import { Outbox } from "./Outbox";

function useNotifiers() {
  useChanges("notifier");
  return useQuery({
    queryKey: ["notifier", "all"],
    queryFn: ({ signal }) =>
      all<Notifier>(async (pageToken) => {
        const page = await notifiers.listNotifiers({ pageSize: 1000, pageToken }, { signal });
        return { items: page.notifiers, next: page.nextPageToken };
      }),
    refetchInterval: 2000,
  });
}

/** Notifiers: how people are told, what waits, and what became of it. */
export function NotifiersRoom() {
  const [id, choose] = useWord("notifier");
  const [making, setMaking] = useState(false);
  const { data, error } = useNotifiers();
  const list = data ?? [];
  return (
    <>
      <RoomHead title="Notifiers" tabs={automationTabs} note={data && counted(list, "notifier")} error={error}>
        <Button onClick={() => setMaking(true)}>New notifier</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <Records title="Notifiers" list={data} error={error} words={(m) => `${m.id} ${m.title}`}>
            {(m) => (
              <Item
                key={m.id} id={m.id} title={m.title} note={kinds[kindOf(m)].name} pill={stateOf(m)} bad={!!m.state?.error} chosen={m.id === id && !making}
                onChoose={() => {
                  setMaking(false);
                  choose(m.id);
                }}
              />
            )}
          </Records>
          <Lanes />
        </div>
        <div className="split-detail">
          {making ? (
            <NotifierForm
              notifier={null}
              onClose={(made) => {
                setMaking(false);
                if (made) choose(made);
              }}
            />
          ) : id ? (
            <Detail key={id} id={id} onGone={() => choose("")} />
          ) : (
            <div className="empty">
              <b>A notifier tells somebody: by mail, text message, chat or webhook.</b>
              <span>Rules, schedules and alarms use it. What it is to send is in its outbox until the provider has it.</span>
              <Try lines={[{ what: "Have the node’s log say what a rule tells", line: "pollux notifier create diary --log && pollux notifier send diary --subject Hello" }]} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

function Detail({ id, onGone }: { id: string; onGone: () => void }) {
  const queries = useQueryClient();
  const [changing, setChanging] = useState(false);
  const { data, error } = useQuery({ queryKey: ["notifier", "one", id], queryFn: ({ signal }) => notifiers.getNotifier({ id }, { signal }), refetchInterval: 2000 });
  const again = () => queries.invalidateQueries({ queryKey: ["notifier"] });
  const test = useMutation({ mutationFn: () => notifiers.testNotifier({ id }) });
  const pause = useMutation({
    mutationFn: (m: Notifier) => notifiers.updateNotifier({ notifier: { ...m, state: undefined, paused: !m.paused } }),
    onSettled: again,
  });
  const m = data?.notifier;
  if (!m) return <Trouble error={error} />;
  if (changing)
    return (
      <NotifierForm
        notifier={m}
        onClose={(kept) => {
          setChanging(false);
          if (!kept) onGone();
        }}
      />
    );
  const s = m.state;
  const said = test.data?.outcome;
  return (
    <section className="panel" aria-label={`Notifier ${id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {m.title || split(id).name} <code>{id}</code>
          </h2>
          <Facts
            list={[
              ["Kind", kinds[kindOf(m)].name],
              ["To", whereTo(m) || "–"],
              ["Queued", count(s?.queued ?? 0n)],
              ["Sent", count(s?.sent ?? 0n)],
              ["Acknowledged", count(s?.acknowledged ?? 0n)],
              ["Failed", count(s?.failed ?? 0n)],
              ["Dropped", count(s?.dropped ?? 0n)],
              ["Node", s?.node || "–"],
            ]}
          />
        </div>
        <span className="head-actions">
          <Button loading={test.isPending} onClick={() => test.mutate()}>
            Test
          </Button>
          <Button variant="default" onClick={() => pause.mutate(m)}>
            {m.paused ? "Resume" : "Pause"}
          </Button>
          <Button variant="default" onClick={() => setChanging(true)}>
            Edit
          </Button>
        </span>
      </div>
      <Trouble error={error ?? test.error ?? pause.error} inside />
      {said?.error && <Trouble error={`The test failed: ${said.error}`} inside />}
      {said && !said.error && (
        <p className="pad" role="status">
          The test is {NotificationState[said.state].toLowerCase()}
          {said.receipt && `: ${said.receipt}`}
        </p>
      )}
      {s?.error && <Trouble error={`It fails since ${dateTime(millis(s.errorTime))}: ${s.error}`} inside />}
      {s?.waitFor && !s.error && (
        <p className="muted pad">
          It waits for {s.waitFor}, until {dateTime(millis(s.waitUntil))}.
        </p>
      )}
      <h3 className="automation-head">Outbox</h3>
      <Outbox id={id} />
    </section>
  );
}

function stateOf(m: Notifier): string {
  if (m.paused) return "paused";
  if (m.state?.error) return "failing";
  return m.state?.waitFor ? "waits" : `${count(m.state?.sent ?? 0n)} sent`;
}
