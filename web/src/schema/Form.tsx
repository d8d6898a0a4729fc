import { Checkbox, Fieldset, JsonInput, NumberInput, PasswordInput, SegmentedControl, Select, TagsInput, TextInput } from "@mantine/core";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { useId, useState } from "react";

import { words } from "../model/thing";
import { unitSymbol } from "../model/unit";
import { choices, kindOf, memberOf, type Problems, type Schema } from "./types";

interface FieldProps {
  schema: Schema;
  value: JsonValue | undefined;
  onChange: (value: JsonValue | undefined) => void;
  /** JSON pointer of this field. */
  path: string;
  label: string;
  required?: boolean;
  problems: Problems;
}

/** A form for a value of any schema. Fields left empty are left out of the value. */
export function SchemaForm({
  schema,
  value,
  onChange,
  problems,
  label = "Value",
}: Pick<FieldProps, "schema" | "value" | "onChange" | "problems"> & { label?: string }) {
  if (kindOf(schema) === "object") {
    return <Fields schema={schema} value={value} onChange={onChange} path="" problems={problems} />;
  }
  return <Field schema={schema} value={value} onChange={onChange} path="" label={schema.title ?? label} required problems={problems} />;
}

function Fields({ schema, value, onChange, path, problems }: Pick<FieldProps, "schema" | "value" | "onChange" | "path" | "problems">) {
  const object: JsonObject = typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
  const put = (name: string, part: JsonValue | undefined) => {
    const next = { ...object };
    if (part === undefined) delete next[name];
    else next[name] = part;
    onChange(next);
  };
  return (
    <div className="fields">
      {Object.entries(schema.properties ?? {}).map(([name, part]) => (
        <Field
          key={name}
          schema={part}
          value={object[name]}
          onChange={(v) => put(name, v)}
          path={`${path}/${name}`}
          label={part.title ?? words(name)}
          required={schema.required?.includes(name)}
          problems={problems}
        />
      ))}
    </div>
  );
}

function Field(props: FieldProps) {
  const { schema, value, onChange, path, label, required, problems } = props;
  const common = {
    label: schema.unit ? `${label} (${unitSymbol(schema.unit)})` : label,
    description: schema.description,
    withAsterisk: required,
    "aria-required": required,
    error: problems[path],
  };
  switch (kindOf(schema)) {
    case "enum":
      return <Choice {...props} />;
    case "boolean":
      if (required) return <Choice {...props} />;
      return (
        <Checkbox
          size="xs"
          label={common.label}
          description={common.description}
          error={common.error}
          checked={value === true}
          onChange={(e) => onChange(e.currentTarget.checked)}
        />
      );
    case "integer":
    case "number":
      return (
        <NumberInput
          {...common}
          value={typeof value === "number" ? value : ""}
          min={schema.minimum}
          max={schema.maximum}
          step={schema.multipleOf ?? 1}
          clampBehavior="none"
          allowDecimal={kindOf(schema) === "number"}
          placeholder={limits(schema)}
          onChange={(v) => onChange(typeof v === "number" ? v : undefined)}
        />
      );
    case "string": {
      const text = {
        ...common,
        value: typeof value === "string" ? value : "",
        placeholder: typeof schema.default === "string" ? schema.default : undefined,
      };
      return schema.writeOnly || schema.format === "password" ? (
        <PasswordInput {...text} autoComplete="off" onChange={(e) => onChange(e.currentTarget.value || undefined)} />
      ) : (
        <TextInput {...text} onChange={(e) => onChange(e.currentTarget.value || undefined)} />
      );
    }
    case "array":
      return <List {...props} />;
    case "object":
      return (
        <Fieldset legend={label} radius="sm" p="xs">
          <Fields schema={schema} value={value} onChange={onChange} path={path} problems={problems} />
        </Fieldset>
      );
    default:
      return <Json {...props} />;
  }
}

/** Few short choices side by side, many in a list. */
function Choice({ schema, value, onChange, path, label, required, problems }: FieldProps) {
  const id = useId();
  const options = choices(schema) ?? [
    { value: false, label: "Off" },
    { value: true, label: "On" },
  ];
  const data = options.map((o) => ({ value: JSON.stringify(o.value), label: o.label }));
  const current = value === undefined ? null : JSON.stringify(value);
  const pick = (v: string | null) => onChange(v === null ? undefined : (JSON.parse(v) as JsonValue));
  const short = data.length <= 4 && data.reduce((n, o) => n + o.label.length, 0) <= 32;
  if (!short || !required) {
    return (
      <Select
        label={label}
        description={schema.description}
        withAsterisk={required}
        error={problems[path]}
        data={data}
        value={current}
        onChange={pick}
        clearable={!required}
        searchable={data.length > 8}
      />
    );
  }
  return (
    <div className="choice">
      <span id={id} className="choice-label">
        {label}
      </span>
      {schema.description && <span className="choice-note">{schema.description}</span>}
      <SegmentedControl aria-labelledby={id} data={data} value={current ?? ""} onChange={pick} />
      {problems[path] && <span className="choice-error">{problems[path]}</span>}
    </div>
  );
}

function List({ schema, value, onChange, path, label, required, problems }: FieldProps) {
  const numeric = kindOf(memberOf(schema)) !== "string";
  return (
    <TagsInput
      label={label}
      description={schema.description ?? "Enter adds one"}
      withAsterisk={required}
      error={within(problems, path)}
      value={Array.isArray(value) ? value.map(String) : []}
      onChange={(list) => onChange(list.length ? list.map((v) => (numeric ? Number(v) : v)) : undefined)}
    />
  );
}

/** The first problem of a field that is drawn as one, wherever in its value it is. */
function within(problems: Problems, path: string): string | undefined {
  return Object.entries(problems).find(([p]) => p === path || p.startsWith(`${path}/`))?.[1];
}

/** Whatever a form cannot draw is written as JSON. */
function Json({ schema, value, onChange, path, label, required, problems }: FieldProps) {
  const [text, setText] = useState(value === undefined ? "" : JSON.stringify(value, null, 2));
  const [wrong, setWrong] = useState(false);
  return (
    <JsonInput
      label={`${label} (JSON)`}
      description={schema.description}
      withAsterisk={required}
      error={wrong ? "is no JSON yet" : within(problems, path)}
      autosize
      minRows={2}
      maxRows={12}
      value={text}
      onChange={(v) => {
        setText(v);
        try {
          onChange(v.trim() ? (JSON.parse(v) as JsonValue) : undefined);
          setWrong(false);
        } catch {
          setWrong(true);
        }
      }}
    />
  );
}

function limits(schema: Schema): string | undefined {
  if (typeof schema.default === "number") return String(schema.default);
  if (schema.minimum !== undefined && schema.maximum !== undefined) return `${schema.minimum} – ${schema.maximum}`;
  return undefined;
}
