import { SegmentedControl, Table } from "@mantine/core";
import { useState } from "react";

import { ApplyOutcome } from "../../gen/pollux/v1/bulk_pb";
import { count } from "../../model/value";
import type { Plan } from "./plan";
import type { Done, Run } from "./useApply";

type Show = "all" | "wrong" | "new" | "changed" | "same";

/** How many lines are drawn; the counts are of all. */
const drawn = 500;

const words: Record<ApplyOutcome, { done: string; dry: string; show: Show }> = {
  [ApplyOutcome.UNSPECIFIED]: { done: "?", dry: "?", show: "all" },
  [ApplyOutcome.CREATED]: { done: "created", dry: "would be created", show: "new" },
  [ApplyOutcome.CHANGED]: { done: "changed", dry: "would change", show: "changed" },
  [ApplyOutcome.UNCHANGED]: { done: "as it is", dry: "as it is", show: "same" },
  [ApplyOutcome.REFUSED]: { done: "refused", dry: "would be refused", show: "wrong" },
  [ApplyOutcome.LEFT]: { done: "left out: another of its group is wrong", dry: "left out: another of its group is wrong", show: "wrong" },
};

/** What became of each record, or would, with the difference field by field. */
export function Report({ plan, run }: { plan: Plan; run: Run | undefined }) {
  const [show, setShow] = useState<Show>("all");
  const done = run?.done ?? [];
  const n = { all: done.length + plan.misread.length, wrong: plan.misread.length, new: 0, changed: 0, same: 0 };
  for (const d of done) {
    const kind = words[d.result.outcome].show;
    if (kind !== "all") n[kind]++;
  }
  const shown = done.filter((d) => show === "all" || words[d.result.outcome].show === show);
  const misread = show === "all" || show === "wrong" ? plan.misread : [];
  return (
    <>
      <div className="toolbar">
        <SegmentedControl
          aria-label="Show"
          data={[
            { value: "all", label: `All ${count(n.all)}` },
            { value: "wrong", label: `Wrong ${count(n.wrong)}` },
            { value: "new", label: `New ${count(n.new)}` },
            { value: "changed", label: `Changed ${count(n.changed)}` },
            { value: "same", label: `As they are ${count(n.same)}` },
          ]}
          value={show}
          onChange={(v) => setShow(v as Show)}
        />
        <span className="muted" role="status">
          {summary(run)}
        </span>
      </div>
      {(shown.length > 0 || misread.length > 0) && (
        <div className="scroll-x">
          <Table verticalSpacing={4} aria-label="Report" className="report">
            <Table.Thead>
              <Table.Tr>
                <Table.Th className="num">Line</Table.Th>
                <Table.Th>Record</Table.Th>
                <Table.Th>{run?.dry === false ? "What became of it" : "What would become of it"}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {misread.slice(0, drawn).map((m) => (
                <Table.Tr key={`misread ${m.line} ${m.text}`}>
                  <Table.Td className="num">{m.line}</Table.Td>
                  <Table.Td className="muted">–</Table.Td>
                  <Table.Td className="bad">{m.text}</Table.Td>
                </Table.Tr>
              ))}
              {shown.slice(0, drawn).map((d) => (
                <Row key={`${d.line.kind} ${d.line.id}`} done={d} dry={run?.dry ?? true} />
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
      {shown.length > drawn && <p className="muted pad">The first {count(drawn)} of {count(shown.length)}.</p>}
    </>
  );
}

function summary(run: Run | undefined): string {
  if (!run) return "";
  if (run.running) return `${count(run.done.length)} of ${count(run.total)}`;
  if (run.error) return "it ended before its end; what was committed stays";
  if (run.stopped) return run.dry ? "stopped" : "stopped; what was committed before it stays";
  return run.dry ? "dry run: nothing was changed" : "applied";
}

function Row({ done: { line, result }, dry }: { done: Done; dry: boolean }) {
  const word = words[result.outcome];
  const tone = word.show === "wrong" ? "bad" : word.show === "new" ? "good" : word.show === "changed" ? "changed" : "muted";
  return (
    <Table.Tr aria-label={line.id}>
      <Table.Td className="num">{line.line}</Table.Td>
      <Table.Td>
        <span className="muted">{line.kind}</span> <code>{result.id || line.id}</code>
      </Table.Td>
      <Table.Td>
        <span className={tone}>{dry ? word.dry : word.done}</span>
        {result.error && <span className="bad">: {result.error}</span>}
        {result.changes.length > 0 && (
          <ul className="changes">
            {result.changes.map((c) => (
              <li key={c.field}>
                <code>{c.field}</code>: <del>{c.old || "–"}</del> → <ins>{c.new || "–"}</ins>
              </li>
            ))}
          </ul>
        )}
      </Table.Td>
    </Table.Tr>
  );
}
