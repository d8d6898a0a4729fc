import { Progress, Table } from "@mantine/core";

import type { QuotaUse } from "../gen/pollux/v1/history_pb";
import { amount, used } from "../model/retention";

const names: Record<string, string> = { twins: "Twins", series: "Series today", journal_bytes: "Journal", topic_bytes: "Topics" };

/** What a project takes, against its quotas. */
export function Uses({ uses }: { uses: QuotaUse[] }) {
  return (
    <Table>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>What</Table.Th>
          <Table.Th>Takes</Table.Th>
          <Table.Th>Quota</Table.Th>
          <Table.Th aria-label="Part used" />
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {uses.map((u) => (
          <Table.Tr key={u.resource}>
            <Table.Td>{names[u.resource] ?? u.resource}</Table.Td>
            <Table.Td>{amount(u.resource, u.used)}</Table.Td>
            <Table.Td>{u.limit ? amount(u.resource, u.limit) : "none"}</Table.Td>
            <Table.Td>{u.limit > 0n && <Progress aria-label={`${names[u.resource]}: ${used(u)} % of the quota`} value={Math.min(100, used(u))} color={used(u) >= 100 ? "red" : used(u) >= 80 ? "yellow" : undefined} w={160} />}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
