import { Button, Menu, Table, TextInput } from "@mantine/core";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { topics } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import type { Channel, TopicPositionSchema } from "../../gen/pollux/v1/topic_pb";
import { split } from "../../model/id";
import { count, span } from "../../model/value";

type Position = MessageInitShape<typeof TopicPositionSchema>;

const places: { label: string; to: () => Position }[] = [
  { label: "The oldest message", to: () => ({ at: { case: "oldest", value: true } }) },
  { label: "An hour ago", to: () => ({ at: { case: "time", value: timestampFromMs(Date.now() - 3_600_000) } }) },
  { label: "A day ago", to: () => ({ at: { case: "time", value: timestampFromMs(Date.now() - 86_400_000) } }) },
  { label: "What comes from now on", to: () => ({ at: { case: "newest", value: true } }) },
];

/** Who reads the topic, and how far each channel is behind. */
export function Channels({ id }: { id: string }) {
  const queries = useQueryClient();
  const [going, setGoing] = useState<Channel>();
  const query = useQuery({
    queryKey: ["channels", id],
    queryFn: async ({ signal }) => (await topics.listChannels({ topic: id, pageSize: 1000 }, { signal })).channels,
    refetchInterval: 2000,
  });
  const again = () => queries.invalidateQueries({ queryKey: ["channels", id] });
  const seek = useMutation({ mutationFn: ({ name, to }: { name: string; to: Position }) => topics.seekChannel({ topic: id, name, to }), onSettled: again });
  const list = query.data ?? [];
  return (
    <>
      <Trouble error={query.error ?? seek.error} inside />
      {!query.isPending && list.length === 0 && (
        <div className="empty">
          <b>Nobody reads in a channel.</b>
          <span>A channel remembers how far its readers are. The first reader makes it:</span>
          <Try lines={[{ what: "Read as one of the channel’s readers, and acknowledge what was printed", line: `pollux topic tail ${bare(id)} --channel billing --oldest` }]} />
        </div>
      )}
      {list.length > 0 && (
        <div className="scroll-x">
          <Table verticalSpacing={5} aria-label="Channels">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Channel</Table.Th>
                <Table.Th className="num" title="messages that are not settled">Lag</Table.Th>
                <Table.Th className="num" title="messages that readers hold">In flight</Table.Th>
                <Table.Th className="num" title="messages that wait to be given again">Waiting</Table.Th>
                <Table.Th className="num" title="age of the oldest message that is not settled">Oldest</Table.Th>
                <Table.Th className="num">Readers</Table.Th>
                <Table.Th className="num" title="settled by readers">Settled</Table.Th>
                <Table.Th className="num" title="given again">Again</Table.Th>
                <Table.Th className="num" title="given up, to the dead letters">Dead</Table.Th>
                <Table.Th className="num" title="removed by the topic’s limits before they were read">Missed</Table.Th>
                <Table.Th aria-label="What to do" />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {list.map((c) => {
                return (
                  <Table.Tr key={c.name} aria-label={c.name}>
                    <Table.Td>
                      <b>{c.name}</b>
                    </Table.Td>
                    <Table.Td className="num">{count(c.lag)}</Table.Td>
                    <Table.Td className="num">{count(c.inFlight)}</Table.Td>
                    <Table.Td className="num">{count(c.waiting)}</Table.Td>
                    <Table.Td className="num">{c.oldest && c.lag > 0n ? span(Number(c.oldest.seconds) * 1000) : "–"}</Table.Td>
                    <Table.Td className={c.readers === 0 && c.lag > 0n ? "num bad" : "num"}>{count(c.readers)}</Table.Td>
                    <Table.Td className="num">{count(c.acknowledged)}</Table.Td>
                    <Table.Td className="num">{count(c.redelivered)}</Table.Td>
                    <Table.Td className={c.dead > 0n ? "num bad" : "num"}>{count(c.dead)}</Table.Td>
                    <Table.Td className={c.missed > 0n ? "num bad" : "num"}>{count(c.missed)}</Table.Td>
                    <Table.Td className="num">
                      <Menu position="bottom-end" shadow="md">
                        <Menu.Target>
                          <Button size="compact-xs" variant="default" aria-label={`What to do with ${c.name}`}>
                            …
                          </Button>
                        </Menu.Target>
                        <Menu.Dropdown>
                          <Menu.Label>Read again from</Menu.Label>
                          {places.map((p) => (
                            <Menu.Item key={p.label} onClick={() => seek.mutate({ name: c.name, to: p.to() })}>
                              {p.label}
                            </Menu.Item>
                          ))}
                          <Menu.Divider />
                          <Menu.Item color="red" onClick={() => setGoing(c)}>
                            Delete the channel
                          </Menu.Item>
                        </Menu.Dropdown>
                      </Menu>
                    </Table.Td>
                  </Table.Tr>
                );
              })}
            </Table.Tbody>
          </Table>
        </div>
      )}
      <NewChannel id={id} onMade={again} />
      <Ask
        opened={going !== undefined}
        onClose={() => setGoing(undefined)}
        title="Delete channel"
        verb="Delete channel"
        run={() => topics.deleteChannel({ topic: id, name: going?.name ?? "" })}
        onDone={again}
      >
        <b>{going?.name}</b> forgets how far its readers are; {count(going?.lag ?? 0n)} messages were not read. The messages stay in the topic.
      </Ask>
    </>
  );
}

function bare(id: string): string {
  const { project, name } = split(id);
  return project === "default" ? name : id;
}

function NewChannel({ id, onMade }: { id: string; onMade: () => unknown }) {
  const [name, setName] = useState("");
  const make = useMutation({
    mutationFn: () => topics.putChannel({ topic: id, name, start: { at: { case: "oldest", value: true } } }),
    onSuccess: () => {
      setName("");
      return onMade();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate();
  };
  return (
    <form className="pad" onSubmit={submit} aria-label="New channel">
      <div className="one-line">
        <TextInput label="New channel" description="begins with the oldest message" placeholder="billing" value={name} onChange={(e) => setName(e.currentTarget.value.trim())} />
        <Button type="submit" variant="default" loading={make.isPending} disabled={!name}>
          Make it
        </Button>
      </div>
      <Trouble error={make.error} />
    </form>
  );
}
