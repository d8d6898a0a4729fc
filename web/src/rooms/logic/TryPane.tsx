import { toJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { ValueSchema, type Value } from "@bufbuild/protobuf/wkt";
import { Button, Select, Textarea } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { logics } from "../../api/client";
import { explain } from "../../api/errors";
import { Trouble } from "../../frame/Room";
import { TwinInput } from "../../frame/TwinInput";
import { Verdict, type TryLogicResponse } from "../../gen/pollux/v1/logic_pb";
import { full } from "../../model/id";
import { plain, wrap } from "../../model/value";
import { useTopics } from "../topics/useTopics";
import { fromJournal, fromRefusals, fromTopic, type From } from "./recorded";

interface Props {
  /** The logic in whose place it is tried; "": it is not there yet. */
  id: string;
  project?: string;
  /** What is tried; undefined: the version that the logic has. */
  file: string | undefined;
  /** Told why it failed, or undefined. */
  onError: (error: string | undefined) => void;
}

const events: { [event: string]: { label: string; message: string } } = {
  run: { label: "run: a message of a route or a rule", message: '{"name": "temperature", "value": 31}' },
  subscription: { label: "changed: a property that it follows", message: '{"name": "lamp", "property": "power", "value": true, "quality": "good"}' },
  timer: { label: "timers: a time that it set", message: '{"name": "idle"}' },
  webhook: { label: "webhook: a request", message: '{"method": "POST", "path": "", "headers": {}, "body": "hello"}' },
  command: { label: "actions and set: a command", message: '{"action": "note"}' },
  load: { label: "load: it begins", message: '{"reason": "start"}' },
};

const places = [
  { value: "", label: "typed" },
  { value: "topic", label: "a message of a topic" },
  { value: "refused", label: "a message that was refused" },
  { value: "journal", label: "the journal" },
];

/** Gives the logic an event and shows what it would do. Nothing is done. */
export function TryPane({ id, project = "default", file, onError }: Props) {
  const [event, setEvent] = useState("run");
  const [twin, setTwin] = useState("");
  const [message, setMessage] = useState(events.run?.message ?? "");
  const [memory, setMemory] = useState("");
  const trial = useMutation({
    mutationFn: () =>
      logics.tryLogic({
        event, id, project, twin: twin === "" ? "" : full(twin), message: wrap(read("the message", message)),
        ...(file === undefined ? {} : { file: new TextEncoder().encode(file) }),
        ...(memory.trim() === "" ? {} : { memory: wrap(read("what it remembers", memory)) }),
      }),
    onSuccess: (res) => onError(res.error || undefined),
    onError: (error) => onError(explain(error)),
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    trial.mutate();
  };
  return (
    <section className="logic-try" aria-label="Try">
      <form className="stack pad" onSubmit={submit} aria-label="Try it">
        <Select
          label="What it hears"
          data={Object.entries(events).map(([value, { label }]) => ({ value, label }))}
          value={event}
          allowDeselect={false}
          onChange={(v) => {
            if (!v) return;
            setEvent(v);
            setMessage(events[v]?.message ?? "{}");
          }}
        />
        <Choose
          project={project}
          twin={twin}
          onChoose={(m, of) => {
            setMessage(JSON.stringify(m, null, 1));
            if (of) setTwin(of);
          }}
        />
        <Textarea label="Message" autosize minRows={2} maxRows={10} spellCheck={false} classNames={{ input: "cel" }} value={message} onChange={(e) => setMessage(e.currentTarget.value)} />
        {event === "run" && <TwinInput label="About the twin" project={project} visible value={twin} onChange={setTwin} />}
        <Textarea
          label="What it remembers before" placeholder={id ? "what it remembers now" : "nothing"} autosize minRows={1} maxRows={6} spellCheck={false} classNames={{ input: "cel" }}
          value={memory} onChange={(e) => setMemory(e.currentTarget.value)}
        />
        <div className="actions">
          <Button type="submit" variant="default" loading={trial.isPending}>
            Try
          </Button>
        </div>
      </form>
      {trial.error && <Trouble error={trial.error} inside />}
      {trial.data && <Tried of={trial.data} />}
    </section>
  );
}

function read(what: string, text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw new Error(`${what} is no JSON: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/** A message of the past. */
function Choose({ project, twin, onChoose }: { project: string; twin: string; onChoose: (message: JsonValue, twin: string) => void }) {
  const [from, setFrom] = useState("");
  const [topic, setTopic] = useState<string | null>(null);
  const [picked, setPicked] = useState<string | null>(null);
  const topicsThere = useTopics();
  const { data, error, isFetching } = useQuery({
    queryKey: ["recorded", from, project, from === "topic" ? topic : from === "journal" ? twin : ""],
    queryFn: ({ signal }) =>
      (from as From) === "topic" ? fromTopic(topic ?? "", signal) : (from as From) === "refused" ? fromRefusals(project, signal) : fromJournal(project, twin === "" ? "" : full(twin), signal),
    enabled: from === "topic" ? topic !== null : from !== "",
    gcTime: 0,
  });
  return (
    <>
      <div className="rule-fields">
        <Select
          label="Message from" data={places} value={from} allowDeselect={false}
          onChange={(v) => {
            setFrom(v ?? "");
            setPicked(null);
          }}
        />
        {from === "topic" && (
          <Select
            label="Topic" searchable data={(topicsThere.data ?? []).map((t) => t.id).filter((t) => t.startsWith(`${project}/`))} value={topic}
            onChange={(v) => {
              setTopic(v);
              setPicked(null);
            }}
          />
        )}
      </div>
      {from !== "" && (
        <Select
          label="Which, the newest first" searchable maxDropdownHeight={260} placeholder={isFetching ? "reading …" : data?.length ? `${data.length} of them` : "none"}
          data={(data ?? []).map((r, i) => ({ value: String(i), label: r.label }))} value={picked}
          onChange={(v) => {
            setPicked(v);
            const r = v === null ? undefined : data?.[Number(v)];
            if (r) onChoose(r.message, r.twin);
          }}
        />
      )}
      <Trouble error={error} inside />
    </>
  );
}

const verdicts: { [v in Verdict]: string } = {
  [Verdict.UNSPECIFIED]: "",
  [Verdict.PASS]: "lets it pass",
  [Verdict.REPLACE]: "replaces it",
  [Verdict.STOP]: "stops it",
};

function json(v: Value | undefined): string {
  return v ? JSON.stringify(toJson(ValueSchema, v), null, 1) : "";
}

/** What a try told. */
function Tried({ of: r }: { of: TryLogicResponse }) {
  return (
    <section className="logic-tried" aria-label="Tried">
      <p className={r.error ? "bad pad" : "good pad"} role="status">
        {r.error ? `${r.name} ${r.version} failed: ${r.error}` : `${r.name} ${r.version} ${verdicts[r.verdict] || "went well"}`}
      </p>
      {r.verdict === Verdict.REPLACE && <Part title="Message that goes on" text={json(r.message)} />}
      {r.output && <Part title="Answer" text={json(r.output)} />}
      {!r.error && (
        <div className="pad">
          <h3>It would</h3>
          {r.deeds.length === 0 && <p className="muted">do nothing</p>}
          <ol aria-label="It would">
            {r.deeds.map((d, i) => (
              <li key={i}>
                <code>{d}</code>
              </li>
            ))}
          </ol>
        </div>
      )}
      {r.memory && <Part title="It would remember" text={remembered(r.memory)} />}
      {r.logs.length > 0 && (
        <div className="pad">
          <h3>It logs</h3>
          <ol aria-label="It logs">
            {r.logs.map((l, i) => (
              <li key={i}>
                <span className="muted">{l.level}</span> {l.text}
              </li>
            ))}
          </ol>
        </div>
      )}
    </section>
  );
}

function remembered(v: Value): string {
  const m = plain(v) as JsonObject;
  return JSON.stringify(m, null, 1);
}

function Part({ title, text }: { title: string; text: string }) {
  return (
    <div className="pad">
      <h3>{title}</h3>
      <pre aria-label={title}>{text}</pre>
    </div>
  );
}
