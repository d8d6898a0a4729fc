import { Table } from "@mantine/core";

import type { Move } from "../../gen/pollux/v1/cluster_pb";
import { useNow } from "../../live/now";
import { ago, count, dateTime, span } from "../../model/value";
import { passages, type Passage } from "./moves";
import { ranges } from "./slots";

/** At most so many lines. */
const most = 12;

/** Hand-overs: those that run, and the newest of those that ended. */
export function HandOvers({ moves }: { moves: readonly Move[] }) {
  const all = passages(moves);
  return (
    <section className="panel" aria-label="Hand-overs">
      <h2>
        Hand-overs
        <small className="muted">{all.length > most ? `the newest ${most} of ${all.length}` : "of slots from node to node"}</small>
      </h2>
      {all.length === 0 ? (
        <p className="muted pad">None that the nodes remember.</p>
      ) : (
        <Table aria-label="Hand-overs" verticalSpacing={5}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>From, to</Table.Th>
              <Table.Th>Slots</Table.Th>
              <Table.Th>Began</Table.Th>
              <Table.Th>Took</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {all.slice(0, most).map((p) => (
              <Line key={p.key} passage={p} />
            ))}
          </Table.Tbody>
        </Table>
      )}
    </section>
  );
}

function Line({ passage: p }: { passage: Passage }) {
  const now = useNow();
  const runs = p.end === undefined;
  const percent = Math.round((100 * p.done) / p.slots.length);
  return (
    <Table.Tr data-runs={runs || undefined}>
      <Table.Td>
        {p.from || "nobody"} → {p.to}
        {runs && p.awaited[0] && <small className="muted awaited">awaits {p.awaited[0][0]}</small>}
      </Table.Td>
      <Table.Td>
        <span className="passage" title={ranges(p.slots)}>
          <b>{count(p.slots.length)}</b>
          {runs && (
            <>
              <span className="bar" role="meter" aria-label="Handed over" aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent}>
                <i style={{ width: `${percent}%` }} />
              </span>
              <small className="muted">{count(p.slots.length - p.done)} to go</small>
            </>
          )}
        </span>
      </Table.Td>
      <Table.Td title={dateTime(p.begin)}>{ago(p.begin, now)}</Table.Td>
      <Table.Td>{runs ? "running" : took((p.end ?? p.begin) - p.begin)}</Table.Td>
    </Table.Tr>
  );
}

function took(ms: number): string {
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms);
}
