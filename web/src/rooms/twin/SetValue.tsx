import { Button, NumberInput, Select, Switch, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import type { JsonValue } from "@bufbuild/protobuf";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import { Progress, type Desired } from "../../gen/pollux/v1/twin_pb";
import type { PropertyModel } from "../../model/thing";
import { plain, wrap } from "../../model/value";
import { check } from "../../schema/check";
import { choices, kindOf } from "../../schema/types";

interface Props {
  id: string;
  model: PropertyModel;
  reported: JsonValue | undefined;
  desired: Desired | undefined;
  disabled: boolean;
}

/** Asks a value of a property: at a click where there are few, on Enter where it is typed. */
export function SetValue({ id, model, reported, desired, disabled }: Props) {
  const { mutate, isPending } = useMutation({
    mutationFn: (value: JsonValue) => twins.setDesired({ id, property: model.name, value: wrap(value) }),
    onError: (error) => notifications.show({ color: "red", title: `${model.name} not set`, message: explain(error) }),
  });
  const open = desired?.progress === Progress.ASKED || desired?.progress === Progress.SENT;
  const shown = open ? plain(desired.value) : reported;
  const label = `Set ${model.name}`;
  const options = choices(model.schema);

  if (options) {
    return (
      <Select
        aria-label={label}
        data={options.map((o) => ({ value: JSON.stringify(o.value), label: o.label }))}
        value={shown === undefined ? null : JSON.stringify(shown)}
        placeholder="Set"
        allowDeselect={false}
        searchable={options.length > 8}
        disabled={disabled || isPending}
        onChange={(v) => v !== null && mutate(JSON.parse(v) as JsonValue)}
      />
    );
  }
  if (kindOf(model.schema) === "boolean") {
    return (
      <Switch
        aria-label={label}
        checked={shown === true}
        disabled={disabled || isPending}
        color={open ? "amber" : undefined}
        onChange={(e) => mutate(e.currentTarget.checked)}
      />
    );
  }
  return <Typed label={label} model={model} busy={isPending} disabled={disabled} onSend={mutate} />;
}

function Typed({
  label,
  model,
  busy,
  disabled,
  onSend,
}: {
  label: string;
  model: PropertyModel;
  busy: boolean;
  disabled: boolean;
  onSend: (value: JsonValue) => void;
}) {
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState<string>();
  const kind = kindOf(model.schema);
  const numeric = kind === "number" || kind === "integer";

  const submit = (event: FormEvent) => {
    event.preventDefault();
    const value = read(text, kind);
    const problem = value === undefined ? "is no value" : Object.values(check(model.schema, value))[0];
    setWrong(problem);
    if (value === undefined || problem) return;
    onSend(value);
    setText("");
  };
  const common = { "aria-label": label, error: wrong, disabled, className: "set-field" };
  return (
    <form className="set" onSubmit={submit} noValidate>
      {numeric ? (
        <NumberInput
          {...common}
          value={text}
          min={model.schema.minimum}
          max={model.schema.maximum}
          clampBehavior="none"
          hideControls
          placeholder={range(model)}
          onChange={(v) => setText(String(v))}
        />
      ) : (
        <TextInput {...common} value={text} placeholder={kind === "string" ? "" : "JSON"} onChange={(e) => setText(e.currentTarget.value)} />
      )}
      <Button type="submit" variant="default" loading={busy} disabled={disabled || text === ""} px={8}>
        Set
      </Button>
    </form>
  );
}

function range(model: PropertyModel): string {
  const { minimum, maximum } = model.schema;
  return minimum !== undefined && maximum !== undefined ? `${minimum} – ${maximum}` : "";
}

function read(text: string, kind: string): JsonValue | undefined {
  if (kind === "string") return text;
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}
