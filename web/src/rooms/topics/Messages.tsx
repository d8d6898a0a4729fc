import { Button, Textarea, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";

import { topics } from "../../api/client";
import type { Link } from "../../api/link";
import { keepStream } from "../../api/stream";
import { Trouble } from "../../frame/Room";
import type { TopicMessage } from "../../gen/pollux/v1/topic_pb";
import { Ring, useRing } from "../../live/ring";
import { count, millis, timeOfDay } from "../../model/value";
import { asText } from "../../model/wire";
import { PauseIcon, PlayIcon } from "../../shell/icons";

/** Messages that the page keeps, and how many of those before it opened it asks for. */
const kept = 500;
const before = 50n;

/** What is published, as it comes, without a channel: nothing is settled by looking. */
export function Messages({ id }: { id: string }) {
  const [ring] = useState(() => new Ring<TopicMessage>(kept));
  const link = useTail(id, ring);
  const live = useRing(ring);
  const [frozen, setFrozen] = useState<typeof live>();
  const shown = [...(frozen ?? live)].reverse();
  return (
    <>
      <Publish id={id} />
      <div className="toolbar">
        <Button variant="default" leftSection={frozen ? <PlayIcon size={14} /> : <PauseIcon size={14} />} aria-pressed={frozen !== undefined} onClick={() => setFrozen(frozen ? undefined : live)}>
          {frozen ? "Resume" : "Pause"}
        </Button>
        <span className="muted" role="status">
          {link.state === "failed" ? link.error : link.state === "offline" ? "reconnecting" : frozen ? "paused" : "live, newest first"}
        </span>
        <span className="muted head-end">{count(shown.length)} shown</span>
      </div>
      {shown.length === 0 && <p className="muted pad">No message yet. Publish one above, or have a route bring what twins say here.</p>}
      <ol className="messages" aria-label="Messages" reversed>
        {shown.map(({ n, entry: m }) => (
          <li key={n}>
            <span className="muted">{count(m.offset)}</span>
            <span className="muted nowrap">{timeOfDay(millis(m.publishTime ?? m.time) ?? 0)}</span>
            <code className="message-key" title="key: messages of one key keep their order">
              {m.key || "–"}
            </code>
            <code className="message-body">{asText(m.payload) || "nothing"}</code>
          </li>
        ))}
      </ol>
    </>
  );
}

function useTail(id: string, ring: Ring<TopicMessage>): Link {
  const [link, setLink] = useState<Link>({ state: "connecting" });
  useEffect(() => {
    let next = 0n;
    return keepStream({
      name: "topic",
      quiet: true,
      open: (signal) => tail(id, next, signal),
      state: setLink,
      message: (m) => {
        next = m.offset + 1n;
        ring.push(m);
      },
    });
  }, [id, ring]);
  return link;
}

/** The messages from `next` on, or the newest ones of before and all to come. */
async function* tail(id: string, next: bigint, signal: AbortSignal): AsyncIterable<TopicMessage> {
  let at = next;
  if (at === 0n) {
    const { topic } = await topics.getTopic({ id }, { signal });
    const end = topic?.state?.nextOffset ?? 1n;
    at = end > before ? end - before : 1n;
  }
  for await (const part of topics.subscribe({ topic: id, start: { at: { case: "offset", value: at } } }, { signal })) {
    for (const d of part.messages) if (d.message) yield d.message;
  }
}

function Publish({ id }: { id: string }) {
  const [key, setKey] = useState("");
  const [payload, setPayload] = useState('{"hello": "world"}');
  const publish = useMutation({
    mutationFn: () =>
      topics.publish({ topic: id, messages: [{ key, payload: new TextEncoder().encode(payload), contentType: isJson(payload) ? "application/json" : "text/plain" }] }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    publish.mutate();
  };
  return (
    <form className="pad" onSubmit={submit} aria-label="Publish">
      <div className="publish">
        <TextInput aria-label="Key" placeholder="key, or none" title="Messages of one key are read in their order" value={key} onChange={(e) => setKey(e.currentTarget.value)} />
        <Textarea aria-label="Payload" autosize minRows={1} maxRows={8} spellCheck={false} value={payload} onChange={(e) => setPayload(e.currentTarget.value)} />
        <Button type="submit" loading={publish.isPending}>
          Publish
        </Button>
      </div>
      {publish.data && (
        <p className="muted" role="status">
          Committed as message {count(publish.data.offsets[0] ?? 0n)}.
        </p>
      )}
      <Trouble error={publish.error} />
    </form>
  );
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
