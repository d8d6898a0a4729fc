import { Button, Loader, Table } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { topics } from "../../api/client";
import { Trouble } from "../../frame/Room";
import type { TopicMessage } from "../../gen/pollux/v1/topic_pb";
import { count as counted, dateTime, millis } from "../../model/value";
import { asText } from "../../model/wire";

/** How many are listed; replay takes all of them. */
const most = 200;

interface Props {
  /** The topic that holds them. */
  list: string;
  count: bigint;
  /** What is said where there are none. */
  none: string;
  /** Tries so many of them again (0: all), and says what became of them. */
  again: (limit: number) => Promise<string>;
}

/** What channels gave up, or a route could not tell or publish, with the reason; and to try it again. */
export function DeadLetters({ list: topic, count, none, again }: Props) {
  const queries = useQueryClient();
  const query = useQuery({
    queryKey: ["dead letters", topic, String(count)],
    queryFn: ({ signal }) => read(topic, signal),
    enabled: count > 0n,
  });
  const replay = useMutation({
    mutationFn: again,
    onSettled: () => Promise.all(["topic", "topics", "dead letters", "channels", "routes"].map((k) => queries.invalidateQueries({ queryKey: [k] }))),
  });
  const list = count > 0n ? (query.data ?? []) : [];
  return (
    <>
      <div className="toolbar">
        <span className="muted" role="status">
          {replay.data ? `${replay.data}. ` : ""}
          {count === 0n ? none : `${counted(count)} wait, the oldest first.`}
        </span>
        {count > 0n && (
          <span className="head-end head-actions">
            <Button variant="default" loading={replay.isPending} onClick={() => replay.mutate(1)}>
              Replay the oldest
            </Button>
            <Button loading={replay.isPending} onClick={() => replay.mutate(0)}>
              Replay all
            </Button>
          </span>
        )}
      </div>
      <Trouble error={query.error ?? replay.error} inside />
      {count > 0n && query.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      {list.length > 0 && (
        <div className="scroll-x">
          <Table verticalSpacing={5} aria-label="Dead letters">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Given up</Table.Th>
                <Table.Th>By</Table.Th>
                <Table.Th>Why</Table.Th>
                <Table.Th>Key</Table.Th>
                <Table.Th>It said</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {list.map((m) => (
                <Table.Tr key={String(m.offset)}>
                  <Table.Td className="nowrap">{dateTime(millis(m.publishTime))}</Table.Td>
                  <Table.Td>{by(m)}</Table.Td>
                  <Table.Td className="bad">{m.headers["pollux-reason"] ?? "–"}</Table.Td>
                  <Table.Td>
                    <code>{m.key || "–"}</code>
                  </Table.Td>
                  <Table.Td>
                    <code className="message-body">{asText(m.payload).slice(0, 300)}</code>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
      {count > BigInt(list.length) && list.length > 0 && <p className="muted pad">The oldest {counted(list.length)} of them.</p>}
    </>
  );
}

/** Who gave it up. */
function by(m: TopicMessage): string {
  const { "pollux-channel": channel, "pollux-route": route, "pollux-attempts": attempts } = m.headers;
  if (channel?.startsWith("sink ")) return channel;
  if (channel) return `channel ${channel}${attempts ? `, after ${attempts} ${attempts === "1" ? "attempt" : "attempts"}` : ""}`;
  return route ? `route ${route}` : "–";
}

async function read(topic: string, signal: AbortSignal): Promise<TopicMessage[]> {
  const list: TopicMessage[] = [];
  for await (const part of topics.subscribe({ topic, start: { at: { case: "oldest", value: true } }, untilEnd: true }, { signal })) {
    for (const d of part.messages) if (d.message) list.push(d.message);
    if (list.length >= most) break;
  }
  return list.slice(0, most);
}
