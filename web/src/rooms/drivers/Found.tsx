import { Table } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { sites } from "../../api/client";
import type { InboxEntry } from "../../gen/pollux/v1/site_pb";
import { dateTime, millis } from "../../model/value";

/** Devices that announced themselves or were found, and are no twins yet. */
export function Inbox() {
  const { data } = useQuery({
    queryKey: ["inbox"],
    queryFn: async ({ signal }) => (await sites.listInbox({ pageSize: 200 }, { signal })).entries,
    refetchInterval: 10_000,
  });
  if (!data || data.length === 0) return null;
  return (
    <section className="panel" aria-label="Inbox">
      <h2>Inbox: devices that are no twins yet</h2>
      <Found entries={data} label="Inbox" />
    </section>
  );
}

export function Found({ entries, label }: { entries: readonly InboxEntry[]; label: string }) {
  if (entries.length === 0) return null;
  return (
    <Table className="versions" verticalSpacing={5} aria-label={label}>
      <Table.Thead>
        <Table.Tr>
          <Table.Th>Device</Table.Th>
          <Table.Th>Known as</Table.Th>
          <Table.Th>Driver</Table.Th>
          <Table.Th>Address</Table.Th>
          <Table.Th>Found</Table.Th>
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {entries.map((e) => (
          <Table.Tr key={e.id}>
            <Table.Td>
              {e.name || e.model}
              {e.via && <span className="muted"> by {e.via}</span>}
            </Table.Td>
            <Table.Td>
              <code>{e.alias && `${e.alias.network}/${e.alias.key}/${e.alias.value}`}</code>
            </Table.Td>
            <Table.Td>{e.driver}</Table.Td>
            <Table.Td>
              <code>{e.uri}</code>
            </Table.Td>
            <Table.Td>{dateTime(millis(e.time))}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
