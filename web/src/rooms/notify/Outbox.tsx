import { Button, NativeSelect, Table } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";

import { notifiers } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { NotificationState, type Notification } from "../../gen/pollux/v1/notify_pb";
import { dateTime, millis } from "../../model/value";

const states = [
  { value: "0", label: "All" },
  { value: String(NotificationState.QUEUED), label: "Queued" },
  { value: String(NotificationState.SENT), label: "Sent" },
  { value: String(NotificationState.ACKNOWLEDGED), label: "Acknowledged" },
  { value: String(NotificationState.FAILED), label: "Failed" },
];

/** What is in a notifier's outbox, the newest first, and what became of it. */
export function Outbox({ id }: { id: string }) {
  const [state, setState] = useState("0");
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["notifier", "outbox", id, state],
    queryFn: ({ pageParam, signal }) => notifiers.listNotifications({ notifier: id, state: Number(state), pageSize: 50, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (page) => page.nextPageToken || undefined,
    refetchInterval: 2000,
  });
  const all = data?.pages.flatMap((p) => p.notifications) ?? [];
  return (
    <>
      <div className="toolbar">
        <NativeSelect aria-label="State" data={states} value={state} onChange={(e) => setState(e.currentTarget.value)} />
      </div>
      <Trouble error={error} inside />
      {data && all.length === 0 && <p className="muted pad">Nothing is here.</p>}
      {all.length > 0 && (
        <div className="scroll-x">
          <Table verticalSpacing={4} aria-label="Outbox">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Time</Table.Th>
                <Table.Th>State</Table.Th>
                <Table.Th>Subject</Table.Th>
                <Table.Th>By</Table.Th>
                <Table.Th>What the provider said</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {all.map((n) => (
                <Table.Tr key={String(n.outcome?.offset)} title={n.body}>
                  <Table.Td className="nowrap">{dateTime(millis(n.time))}</Table.Td>
                  <Table.Td className="nowrap">
                    <span className={n.outcome?.state === NotificationState.FAILED ? "pill pill-bad" : "pill"}>{stateOf(n)}</span>
                  </Table.Td>
                  <Table.Td>{n.subject || n.body}</Table.Td>
                  <Table.Td>{n.by}</Table.Td>
                  <Table.Td>{n.outcome?.error || n.outcome?.receipt}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
      {hasNextPage && (
        <div className="actions pad">
          <Button variant="default" loading={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Older ones
          </Button>
        </div>
      )}
    </>
  );
}

function stateOf(n: Notification): string {
  const word = (NotificationState[n.outcome?.state ?? 0] ?? "").toLowerCase();
  return n.outcome?.repeated ? `${word}, perhaps twice` : word;
}
