import { Table } from "@mantine/core";

import { Spark } from "../../chart/Spark";
import type { IngestCount } from "../../gen/pollux/v1/ingest_pb";
import { count, number } from "../../model/value";
import { doorOf, rateNow, rates, sum, type Look } from "./rates";

/** received = stored + refused + inbox + duplicate + in flight, in figures. */
export function Equation({ counts }: { counts: readonly IngestCount[] }) {
  const s = sum(counts);
  const parts: [string, bigint, string, string?][] = [
    ["Received", s.received, ""],
    ["Stored", s.stored, "="],
    ["Refused", s.refused, "+", s.refused > 0n ? "bad" : undefined],
    ["Inbox", s.inbox, "+"],
    ["Duplicate", s.duplicate, "+"],
    ["In flight", s.inFlight, "+"],
  ];
  return (
    <dl className="equation" aria-label="Messages">
      {parts.map(([name, n, sign, tone]) => (
        <div key={name} title={meaning[name]}>
          {sign && <span aria-hidden="true">{sign}</span>}
          <span>
            <dt>{name}</dt>
            <dd data-tone={tone}>{count(n)}</dd>
          </span>
        </div>
      ))}
    </dl>
  );
}

const meaning: Record<string, string> = {
  Received: "everything that came through a door",
  Stored: "committed with the state and history that it changed",
  Refused: "never taken; listed below with the reason",
  Inbox: "from senders that nobody knows; the inbox shows them",
  Duplicate: "sent again with an id that was taken before",
  "In flight": "on its way, on this node now",
};

/** One line per project and door, with what passes per second. */
export function Doors({ counts, looks }: { counts: readonly IngestCount[]; looks: readonly Look[] }) {
  return (
    <div className="scroll-x">
      <Table verticalSpacing={5} aria-label="Doors">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Project</Table.Th>
            <Table.Th>Door</Table.Th>
            <Table.Th className="num">Per second</Table.Th>
            <Table.Th>Last 5 minutes</Table.Th>
            <Table.Th className="num">Received</Table.Th>
            <Table.Th className="num">Stored</Table.Th>
            <Table.Th className="num">Refused</Table.Th>
            <Table.Th className="num">Inbox</Table.Th>
            <Table.Th className="num">Duplicate</Table.Th>
            <Table.Th className="num">In flight</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {counts.map((c) => {
            const door = doorOf(c);
            const rate = rateNow(looks, door);
            return (
              <Table.Tr key={door} aria-label={door}>
                <Table.Td>{c.project}</Table.Td>
                <Table.Td>
                  <b>{c.door}</b>
                </Table.Td>
                <Table.Td className="num">{rate === undefined ? "…" : number(Math.round(rate * 10) / 10)}</Table.Td>
                <Table.Td>
                  <Spark points={rates(looks, door).map((r) => r.rate)} label={`Messages per second of ${door}`} />
                </Table.Td>
                {[c.received, c.stored, c.refused, c.inbox, c.duplicate, c.inFlight].map((n, i) => (
                  <Table.Td key={i} className={i === 2 && n > 0n ? "num bad" : "num"}>
                    {count(n)}
                  </Table.Td>
                ))}
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </div>
  );
}
