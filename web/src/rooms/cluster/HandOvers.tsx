import { Table } from "@mantine/core";

import type { Move, SlotMap } from "../../gen/pollux/v1/cluster_pb";
import { useNow } from "../../live/now";
import { ago, count, dateTime, span } from "../../model/value";
import { passages, running, type Passage } from "./moves";
import { ranges } from "./slots";

/** At most so many lines of what is over. */
const most = 12;

/** Hand-overs: those that run, and the newest of those that ended. */
export function HandOvers({ map, moves }: { map: SlotMap | undefined; moves: readonly Move[] }) {
  const now = running(map, moves);
  const past = passages(moves);
  return (
    <section className="panel" aria-label="Hand-overs">
      <h2>
        Hand-overs
        <small className="muted">what runs, and the newest that the nodes remember</small>
      </h2>
      {now.length + past.length === 0 ? (
        <p className="muted pad">None.</p>
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
            {[...now, ...past.slice(0, most)].map((p) => (
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
  return (
    <Table.Tr data-runs={p.end === undefined || undefined}>
      <Table.Td>
        {p.from || "nobody"} → {p.to}
        {p.awaited[0] && <small className="muted awaited">awaits {p.awaited[0]}</small>}
      </Table.Td>
      <Table.Td title={ranges(p.slots)}>
        {count(p.slots.length)}
        {p.end === undefined && " to go"}
      </Table.Td>
      <Table.Td title={dateTime(p.begin)}>{p.begin === undefined ? "–" : ago(p.begin, now)}</Table.Td>
      <Table.Td>{p.end === undefined ? "running" : took(p.end - (p.begin ?? p.end))}</Table.Td>
    </Table.Tr>
  );
}

function took(ms: number): string {
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms);
}
