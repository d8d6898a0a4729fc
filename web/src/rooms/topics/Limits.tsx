import { Button, NumberInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { topics } from "../../api/client";
import { Trouble } from "../../frame/Room";
import type { Topic } from "../../gen/pollux/v1/topic_pb";

/** A topic's title and what it keeps; beyond, it loses its oldest messages. */
export function Limits({ topic, release }: { topic: Topic; release: () => void }) {
  const queries = useQueryClient();
  const [title, setTitle] = useState(topic.title);
  const [hours, setHours] = useState<number | string>(topic.maxAge ? Number(topic.maxAge.seconds) / 3600 : "");
  const [messages, setMessages] = useState<number | string>(topic.maxMessages ? Number(topic.maxMessages) : "");
  const [mib, setMib] = useState<number | string>(topic.maxBytes ? Number(topic.maxBytes) / (1 << 20) : "");
  const save = useMutation({
    mutationFn: () =>
      topics.updateTopic({
        topic: {
          id: topic.id,
          revision: topic.revision,
          title,
          maxAge: hours === "" ? undefined : { seconds: BigInt(Math.round(Number(hours) * 3600)), nanos: 0 },
          maxMessages: BigInt(messages || 0),
          maxBytes: BigInt(Math.round(Number(mib || 0) * (1 << 20))),
        },
      }),
    onSuccess: () => {
      release();
      return queries.invalidateQueries({ queryKey: ["topics"] });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label="Limits">
      <p className="muted">Beyond its limits a topic loses its oldest messages, read or not. They are counted: Trimmed above, and Missed of each channel.</p>
      <div className="fields">
        <TextInput label="Title" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        <NumberInput label="Kept for, hours" placeholder="168, a week" min={0} value={hours} onChange={setHours} />
        <NumberInput label="Messages at most" placeholder="1 000 000" min={0} value={messages} onChange={setMessages} />
        <NumberInput label="Size at most, MiB" placeholder="1024" min={0} value={mib} onChange={setMib} />
      </div>
      <Trouble error={save.error} />
      <div className="actions">
        {save.isSuccess && <span className="muted">Saved.</span>}
        <Button type="submit" loading={save.isPending}>
          Save
        </Button>
      </div>
    </form>
  );
}
