import { Table } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { cluster } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { ago, count, millis } from "../../model/value";
import { goesTo } from "./lane";

/** What twins have said and topics, rules and logics have not taken yet, and which of these stand still. */
export function Lanes() {
  const { data, error, dataUpdatedAt } = useQuery({ queryKey: ["status"], queryFn: ({ signal }) => cluster.getStatus({}, { signal }), refetchInterval: 2000 });
  const held = data?.outboxHeld ?? [];
  return (
    <section className="panel" aria-label="On their way">
      <h2>On their way</h2>
      <Trouble error={error} inside />
      {data && (
        <p className="muted pad">
          {count(data.outboxMessages)} {data.outboxMessages === 1n ? "message" : "messages"} to topics, rules and logics; {held.length === 0 ? "none stands still." : "these stand still:"}
        </p>
      )}
      {held.length > 0 && (
        <div className="scroll-x">
          <Table verticalSpacing={4} aria-label="Standing still">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>To</Table.Th>
                <Table.Th>Waiting</Table.Th>
                <Table.Th>Last moved</Table.Th>
                <Table.Th>Why</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {held.map((l) => (
                <Table.Tr key={`${l.node} ${l.to}`} title={`on node ${l.node}`}>
                  <Table.Td>{goesTo(l.to)}</Table.Td>
                  <Table.Td>{count(l.messages)}</Table.Td>
                  <Table.Td className="nowrap">{ago(millis(l.since), dataUpdatedAt)}</Table.Td>
                  <Table.Td>{l.error || "it does not answer"}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </section>
  );
}
