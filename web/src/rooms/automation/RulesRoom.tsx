import { Button, Table } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { automation } from "../../api/client";
import { useWord } from "../../frame/address";
import { Records } from "../../frame/Records";
import { RoomHead, Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Evaluation, Rule, RuleState } from "../../gen/pollux/v1/automation_pb";
import { counted } from "../../model/list";
import { full, split } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { DryRun, TestBench } from "./Bench";
import { Facts } from "./Facts";
import { Item } from "./Item";
import { RuleEditor } from "./RuleEditor";
import { Runs } from "./Runs";
import { readRule, write } from "./text";
import { automationTabs, useRules } from "./useAutomation";

async function put(text: string, revision: bigint): Promise<string> {
  const rule = readRule(text, revision);
  rule.id = full(rule.id);
  return (await automation.putRule({ rule })).rule?.id ?? rule.id;
}

/** Rules: what each watches, what it says at present, and why it did or did not act. */
export function RulesRoom() {
  const [id, choose] = useWord("rule");
  const { data, error } = useRules();
  const list = data ?? [];
  const chosen = list.find((r) => r.rule.id === id)?.rule;
  return (
    <>
      <RoomHead title="Rules" tabs={automationTabs} note={data && counted(list, "rule")} error={error}>
        <Button onClick={() => choose("new")}>New rule</Button>
      </RoomHead>
      <div className="split">
        <div className="split-list">
          <Records title="Rules" list={data} error={error} words={({ rule: r }) => `${r.id} ${r.title}`}>
            {({ rule: r, state }) => (
              <Item key={r.id} id={r.id} title={r.title} note={r.if} {...rest(r, state)} chosen={r.id === id} onChoose={() => choose(r.id)} />
            )}
          </Records>
        </div>
        <div className="split-detail">
          {id === "new" ? (
            <section className="panel" aria-label="New rule">
              <h2>New rule</h2>
              <RuleEditor id="" text="" save={(text) => put(text, 0n)} onClose={choose} />
            </section>
          ) : chosen ? (
            <RuleDetail key={chosen.id} rule={chosen} onChoose={choose} />
          ) : (
            <div className="empty">
              {id && data ? <b>There is no rule {id}.</b> : <b>A rule does something when something holds.</b>}
              <span>It goes on when a node dies, and tells of each evaluation what it saw and what came of it.</span>
              <Try lines={[{ what: "An alarm while a room is too hot", line: "pollux rule put too-hot --on room1.temperature --if 'value > 28.0' --until 'value < 26.0' --raise too-hot" }]} />
            </div>
          )}
        </div>
      </div>
    </>
  );
}

/** rest is why a rule does not do what it would, for the list. */
function rest(r: Rule, state?: RuleState): { pill?: string; bad?: boolean } {
  if (r.paused) return { pill: "paused" };
  if (state?.stopped) return { pill: "stopped", bad: true };
  return state?.storming ? { pill: "action storm", bad: true } : {};
}

function RuleDetail({ rule, onChoose }: { rule: Rule; onChoose: (id: string) => void }) {
  const client = useQueryClient();
  const [editing, setEditing] = useState<Rule>();
  const why = useQuery({ queryKey: ["rule", "why", rule.id], queryFn: ({ signal }) => automation.whyRule({ id: rule.id }, { signal }), refetchInterval: 2000 });
  const rest = rule.paused || Boolean(why.data?.state?.stopped);
  const pause = useMutation({
    mutationFn: () => automation.putRule({ rule: { ...rule, paused: !rest } }),
    onSettled: () => client.invalidateQueries({ queryKey: ["rule"] }),
  });
  const s = why.data?.state;
  return (
    <section className="panel" aria-label={`Rule ${rule.id}`}>
      <div className="detail-head">
        <div>
          <h2>
            {rule.title || split(rule.id).name} <code>{rule.id}</code>
          </h2>
          {s && (
            <Facts
              list={[
                ["State", rule.paused ? "paused" : s.stopped ? "stopped" : "on"],
                ["Holds for", count(s.active)],
                ["Would hold for", count(s.pending)],
                ["Fired", count(s.firings)],
                ["Last", dateTime(millis(s.last))],
                ["Evaluated", count(s.evaluations)],
                ["Left out", count(s.dampened + s.outside + s.storm)],
              ]}
            />
          )}
        </div>
        <span className="head-actions">
          <Button variant="default" loading={pause.isPending} onClick={() => pause.mutate()}>
            {rest ? "Enable" : "Disable"}
          </Button>
          <Button variant="default" onClick={() => setEditing(editing ? undefined : rule)}>
            Edit
          </Button>
        </span>
      </div>
      <Trouble error={why.error ?? pause.error ?? (s?.stopped && `It has stopped: ${s.stopped}`)} inside />
      {s?.storming && !s.stopped && (
        <Trouble error={`Action storm since ${dateTime(millis(s.storming))}: ${count(s.storm)} firings were left out, more than ${rule.limit || 600} a minute.`} inside />
      )}
      <Trouble error={s?.error} inside />
      {why.data && why.data.notes.length > 0 && (
        <ul className="automation-notes" aria-label="Not there at present">
          {why.data.notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      )}
      {editing && (
        <RuleEditor
          id={rule.id}
          text={write(editing)}
          save={(text) => put(text, editing.revision)}
          onClose={(id) => {
            setEditing(undefined);
            onChoose(id);
          }}
        />
      )}
      {!editing && <pre className="automation-text" aria-label="Text">{write(rule)}</pre>}
      {why.data && (
        <>
          <h3 className="automation-head">Why</h3>
          {why.data.now && <Present of={why.data.now} />}
          <Evaluations list={why.data.evaluations} />
          <h3 className="automation-head">What it did</h3>
          <Runs runs={why.data.runs} />
          <h3 className="automation-head">Try it</h3>
          <TestBench rule={rule} />
          <DryRun rule={rule} />
        </>
      )}
    </section>
  );
}

const valuesText = (values: Record<string, string>) => Object.entries(values).sort().map(([k, v]) => `${k} = ${v}`).join(", ");

/** What a rule says at present. */
function Present({ of: e }: { of: Evaluation }) {
  return (
    <p className="pad" aria-label="At present">
      At present{e.subject && <> of <code>{e.subject}</code></>}: {e.error ? <span className="bad">{e.error}</span> : <b>{e.verdict}</b>} <code>{valuesText(e.values)}</code>
    </p>
  );
}

function Evaluations({ list }: { list: Evaluation[] }) {
  if (list.length === 0) return <p className="muted pad">Nothing has triggered it lately: evaluations are kept while the rule is awake.</p>;
  const newest = [...list].sort((a, b) => (millis(b.time) ?? 0) - (millis(a.time) ?? 0)).slice(0, 20);
  return (
    <div className="scroll-x">
      <Table verticalSpacing={4} aria-label="Evaluations">
        <Table.Tbody>
          {newest.map((e, i) => (
            <Table.Tr key={i}>
              <Table.Td className="nowrap">{dateTime(millis(e.time))}</Table.Td>
              <Table.Td>
                {e.subject && <code>{e.subject}</code>} {e.trigger}
              </Table.Td>
              <Table.Td>
                <code>{valuesText(e.values)}</code>
              </Table.Td>
              <Table.Td>{e.error ? <span className="bad">{e.error}</span> : e.verdict}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}
