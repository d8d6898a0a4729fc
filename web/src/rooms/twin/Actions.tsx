import { Button, Collapse, NumberInput, Switch, UnstyledButton } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import type { JsonValue } from "@bufbuild/protobuf";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { twins } from "../../api/client";
import { explain, infoOf } from "../../api/errors";
import type { CommandStatus } from "../../gen/pollux/v1/twin_pb";
import type { ActionModel } from "../../model/thing";
import { plain, show, wrap } from "../../model/value";
import { check } from "../../schema/check";
import { SchemaForm } from "../../schema/Form";
import { initial, type Problems } from "../../schema/types";
import { Commands } from "./Commands";
import { outcomes } from "../../model/outcomes";

interface Props {
  id: string;
  actions: ActionModel[];
  queued: number;
  commands: readonly CommandStatus[];
  stopped: boolean;
}

/** A form for each action, drawn from its schema. */
export function Actions({ id, actions, queued, commands, stopped }: Props) {
  return (
    <section className="panel" aria-label="Actions">
      <h2>
        Actions
        <span className="count" data-on={queued > 0 || undefined} role="status">
          {queued === 0 ? "queue empty" : `${queued} in the queue`}
        </span>
        {queued > 0 && <ClearQueue id={id} />}
      </h2>
      <Commands commands={commands} />
      {actions.length === 0 && <p className="muted pad">This twin has none.</p>}
      {actions.map((action) => (
        <Action key={action.name} id={id} action={action} disabled={stopped} />
      ))}
    </section>
  );
}

/** Rejects what waits; what the device is being told goes on. */
function ClearQueue({ id }: { id: string }) {
  const { mutate, isPending } = useMutation({
    mutationFn: () => twins.clearCommands({ id }),
    onSuccess: ({ cleared }) =>
      notifications.show({ message: cleared === 1 ? "One command that waited was rejected." : `${cleared} commands that waited were rejected.` }),
    onError: (error) => notifications.show({ color: "red", message: explain(error) }),
  });
  return (
    <Button size="compact-xs" variant="default" loading={isPending} onClick={() => mutate()}>
      Clear the queue
    </Button>
  );
}

/** The fields of the twin's command queue; what is empty is the node's choice. */
interface Options {
  priority?: number;
  timeout?: number;
  retries?: number;
  noWait: boolean;
}

function Action({ id, action, disabled }: { id: string; action: ActionModel; disabled: boolean }) {
  const [input, setInput] = useState<JsonValue | undefined>(() => action.input && initial(action.input));
  const [problems, setProblems] = useState<Problems>({});
  const [more, setMore] = useState(false);
  const [options, setOptions] = useState<Options>({ noWait: false });
  const run = useMutation({
    mutationFn: async () => {
      const started = performance.now();
      const response = await twins.invoke({
        id,
        action: action.name,
        input: input === undefined ? undefined : wrap(input),
        options: {
          priority: options.priority,
          retries: options.retries,
          timeout: options.timeout ? { seconds: BigInt(Math.floor(options.timeout)), nanos: 0 } : undefined,
          noWait: options.noWait,
        },
      });
      return { outcome: response.outcome, output: plain(response.output), ms: performance.now() - started };
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found = action.input ? check(action.input, input) : {};
    if (action.input && input === undefined) found[""] = "is needed";
    setProblems(found);
    if (Object.keys(found).length === 0) run.mutate();
  };

  return (
    <form className="action" onSubmit={submit} noValidate aria-label={action.name}>
      <div className="action-head">
        <span title={action.description}>
          {action.title}
          <code>{action.name}</code>
        </span>
        <UnstyledButton className="more" aria-expanded={more} aria-label={`Options of ${action.name}`} onClick={() => setMore(!more)}>
          Options
        </UnstyledButton>
        <Button type="submit" variant="light" loading={run.isPending} disabled={disabled} aria-label={`Run ${action.name}`}>
          Run
        </Button>
      </div>
      {action.input && (
        <SchemaForm schema={action.input} value={input} onChange={setInput} problems={problems} label={action.title} />
      )}
      <Collapse expanded={more}>
        <QueueOptions options={options} onChange={setOptions} />
      </Collapse>
      {run.data && (
        <p className="outcome" data-outcome={outcomes[run.data.outcome]} role="status">
          <b>{outcomes[run.data.outcome]}</b> in {run.data.ms < 10 ? run.data.ms.toFixed(1) : Math.round(run.data.ms)} ms
          {run.data.output !== undefined && run.data.output !== null && <code>{show(run.data.output)}</code>}
        </p>
      )}
      {run.error && (
        <p className="outcome" data-outcome="failed" role="alert">
          {verdict(run.error)}
          {explain(run.error)}
        </p>
      )}
    </form>
  );
}

/** Whether the device did it, where the node knows that much of a call that failed. */
function verdict(error: unknown) {
  const outcome = infoOf(error)?.outcome;
  return outcome ? <b>{outcomes[outcome]}: </b> : null;
}

function QueueOptions({ options, onChange }: { options: Options; onChange: (o: Options) => void }) {
  const numeric = (v: string | number) => (typeof v === "number" ? v : undefined);
  return (
    <div className="columns three">
      <NumberInput
        label="Priority"
        placeholder="50"
        min={1}
        max={100}
        value={options.priority ?? ""}
        onChange={(v) => onChange({ ...options, priority: numeric(v) })}
      />
      <NumberInput
        label="Timeout (s)"
        placeholder="5"
        min={1}
        max={600}
        value={options.timeout ?? ""}
        onChange={(v) => onChange({ ...options, timeout: numeric(v) })}
      />
      <NumberInput
        label="Retries"
        placeholder="3"
        min={0}
        max={100}
        value={options.retries ?? ""}
        onChange={(v) => onChange({ ...options, retries: numeric(v) })}
      />
      <Switch label="Do not wait" checked={options.noWait} onChange={(e) => onChange({ ...options, noWait: e.currentTarget.checked })} />
    </div>
  );
}
