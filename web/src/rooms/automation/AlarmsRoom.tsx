import { Button, Checkbox, Menu, SegmentedControl, Table, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";

import { automation } from "../../api/client";
import { useWord } from "../../frame/address";
import { Ask } from "../../frame/Ask";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { AlarmSeverity, type Alarm, type ChangeAlarmRequest } from "../../gen/pollux/v1/automation_pb";
import { counted } from "../../model/list";
import { split, twinPath } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { AlarmStatistics } from "./AlarmStatistics";
import { AlarmTimeline } from "./AlarmTimeline";
import { Facts } from "./Facts";
import { Item } from "./Item";
import { RaiseAlarm } from "./RaiseAlarm";
import { Runs } from "./Runs";
import { automationTabs, useAlarms } from "./useAutomation";

const shelves = [
  { label: "For an hour", seconds: 3600 },
  { label: "For 8 hours", seconds: 8 * 3600 },
  { label: "For a day", seconds: 86_400 },
  { label: "For a week", seconds: 7 * 86_400 },
];

/** Alarms: what somebody should look at, and what was done about it. */
export function AlarmsRoom() {
  const [id, choose] = useWord("alarm");
  const [every, setEvery] = useWord("all");
  const [show, setShow] = useWord("show");
  const [raising, setRaising] = useState(false);
  const { data, error } = useAlarms(every !== "");
  const list = data ?? [];
  return (
    <>
      <RoomHead title="Alarms" tabs={automationTabs} note={data && counted(list, "alarm")} error={error}>
        {!show && <Checkbox label="Also shelved, suppressed and over" checked={every !== ""} onChange={(e) => setEvery(e.currentTarget.checked ? "yes" : "")} />}
        <SegmentedControl
          size="xs"
          aria-label="View"
          value={show || "list"}
          onChange={(v) => setShow(v === "list" ? "" : v)}
          data={[
            { value: "list", label: "List" },
            { value: "timeline", label: "Timeline" },
            { value: "statistics", label: "Statistics" },
          ]}
        />
        <Button onClick={() => setRaising(true)}>Raise alarm</Button>
      </RoomHead>
      {raising && (
        <RaiseAlarm
          onClose={(made) => {
            setRaising(false);
            if (made) choose(made);
          }}
        />
      )}
      {show === "timeline" && <AlarmTimeline />}
      {show === "statistics" && <AlarmStatistics />}
      {!show && (
        <div className="split">
          <div className="split-list">
            <Records title="Alarms" list={data} error={error} none="Nothing needs attention." words={(a) => `${a.id} ${a.text}`}>
              {(a) => (
                <Item key={a.id} id={a.id} title={a.text} note={stateOf(a)} pill={severity(a)} bad={a.active && a.severity >= AlarmSeverity.ERROR} chosen={a.id === id} onChoose={() => choose(a.id)} />
              )}
            </Records>
          </div>
          <div className="split-detail">
            {id ? (
              <AlarmDetail key={id} id={id} onGone={() => choose("")} />
            ) : (
              <div className="empty">
                <b>An alarm is what somebody should look at.</b>
                <span>Rules raise and clear them; it needs attention until it is both cleared and acknowledged.</span>
                <Try lines={[{ what: "Raise one by hand", line: "pollux alarm raise leak 'water in the cellar' --severity critical" }]} />
              </div>
            )}
          </div>
        </div>
      )}
    </>
  );
}

function AlarmDetail({ id, onGone }: { id: string; onGone: () => void }) {
  const client = useQueryClient();
  const [note, setNote] = useState("");
  const [to, setTo] = useState<string>();
  const [going, setGoing] = useState(false);
  const { data, error } = useQuery({ queryKey: ["alarm", "one", id], queryFn: ({ signal }) => automation.getAlarm({ id }, { signal }), refetchInterval: 10_000 });
  const change = useMutation({
    mutationFn: (what: ChangeAlarmRequest["change"]) => automation.changeAlarm({ id, change: what, note }),
    onSuccess: () => {
      setNote("");
      setTo(undefined);
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["alarm"] }),
  });
  const a = data?.alarm;
  if (!a) return <Trouble error={error} />;
  return (
    <section className="panel" aria-label={`Alarm ${id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {a.text || split(id).name} <code>{id}</code>
          </h2>
          <Facts
            list={[
              ["State", stateOf(a)],
              ["Severity", severity(a)],
              ["Since", dateTime(millis(a.raiseTime))],
              ["Came", count(a.raised)],
              ["Said", count(a.told)],
              ["About", a.twin ? <Link href={twinPath(a.twin)}>{a.twin}</Link> : "–"],
              ["Raised by", a.by || "–"],
              ["For", a.assignedTo || "nobody"],
            ]}
          />
        </div>
      </div>
      <Trouble error={error ?? change.error} inside />
      <div className="toolbar">
        <TextInput aria-label="Note" placeholder="note" value={note} onChange={(e) => setNote(e.currentTarget.value)} />
        <Button disabled={a.acknowledged} onClick={() => change.mutate({ case: "acknowledge", value: true })}>
          Acknowledge
        </Button>
        {shelved(a) ? (
          <Button variant="default" onClick={() => change.mutate({ case: "shelve", value: { $typeName: "google.protobuf.Duration", seconds: 0n, nanos: 0 } })}>
            Take from the shelf
          </Button>
        ) : (
          <Menu shadow="md">
            <Menu.Target>
              <Button variant="default">Shelve</Button>
            </Menu.Target>
            <Menu.Dropdown>
              {shelves.map((s) => (
                <Menu.Item key={s.seconds} onClick={() => change.mutate({ case: "shelve", value: { $typeName: "google.protobuf.Duration", seconds: BigInt(s.seconds), nanos: 0 } })}>
                  {s.label}
                </Menu.Item>
              ))}
            </Menu.Dropdown>
          </Menu>
        )}
        <Button variant="default" disabled={!a.active} onClick={() => change.mutate({ case: "clear", value: true })}>
          Clear
        </Button>
        <TextInput aria-label="Assign to" placeholder="nobody" w={110} value={to ?? a.assignedTo} onChange={(e) => setTo(e.currentTarget.value)} />
        <Button variant="default" disabled={to === undefined || to.trim() === a.assignedTo} onClick={() => change.mutate({ case: "assign", value: (to ?? "").trim() })}>
          Assign
        </Button>
        <Button variant="default" ml="auto" onClick={() => setGoing(true)}>
          Delete
        </Button>
      </div>
      <Ask
        opened={going}
        onClose={() => setGoing(false)}
        title="Delete alarm"
        verb="Delete alarm"
        run={() => automation.deleteAlarm({ id })}
        onDone={async () => {
          onGone();
          await client.invalidateQueries({ queryKey: ["alarm", "all"] });
        }}
      >
        <b>{id}</b> is gone; the timeline and the statistics keep when it was active. It comes back where its rule raises it again.
      </Ask>
      <h3 className="automation-head">What happened</h3>
      <div className="scroll-x">
        <Table verticalSpacing={4} aria-label="Changes">
          <Table.Tbody>
            {[...a.changes].sort((x, y) => (millis(y.time) ?? 0) - (millis(x.time) ?? 0)).map((c, i) => (
              <Table.Tr key={i}>
                <Table.Td className="nowrap">{dateTime(millis(c.time))}</Table.Td>
                <Table.Td>{c.what}</Table.Td>
                <Table.Td>{c.by}</Table.Td>
                <Table.Td>{c.note}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </div>
      {data.runs.length > 0 && (
        <>
          <h3 className="automation-head">Escalation</h3>
          <Runs runs={data.runs} />
        </>
      )}
    </section>
  );
}

function shelved(a: Alarm): boolean {
  return (millis(a.shelvedUntil) ?? 0) > Date.now();
}

function stateOf(a: Alarm): string {
  const words = [a.active ? "active" : "cleared", a.acknowledged ? "acknowledged" : "not acknowledged"];
  if (shelved(a)) words.push(`shelved until ${dateTime(millis(a.shelvedUntil))}`);
  if (a.suppressedBy) words.push(`suppressed by ${a.suppressedBy}`);
  if (a.suppresses > 0) words.push(`stands for ${a.suppresses} behind it`);
  return words.join(", ");
}

function severity(a: Alarm): string {
  return AlarmSeverity[a.severity].toLowerCase();
}
