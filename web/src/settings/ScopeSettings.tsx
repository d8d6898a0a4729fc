import "./settings.css";

import { Alert, Button, JsonInput, Loader } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { settings } from "../api/client";
import { explain, placeOf } from "../api/errors";
import { Held } from "../frame/Held";
import type { Settings } from "../gen/pollux/v1/settings_pb";
import { check } from "../schema/check";
import { SchemaForm } from "../schema/Form";
import type { Problems, Schema } from "../schema/types";
import { asked, partOf, type Scope } from "./scope";
import { Versions } from "./Versions";

/** What one scope sets: a form where a schema says what there is, else JSON; and its versions. */
export function ScopeSettings({ scope, schema }: { scope: Scope; schema?: Schema }) {
  const { data, error } = useQuery({
    queryKey: ["settings", scope.kind, scope.id],
    queryFn: async ({ signal }) => (await settings.getSettings({ scope: asked(scope) }, { signal })).settings,
  });
  if (error) {
    return (
      <p className="bad pad" role="alert">
        {explain(error)}
      </p>
    );
  }
  if (!data) return <Loader size="sm" m="md" aria-label="Loading" />;
  return (
    <div className="scope-settings">
      {scope.kind !== "twin" && (
        <Held record={data} revision={data.version}>
          {(held, release) => <Edit scope={scope} now={held} schema={schema} release={release} />}
        </Held>
      )}
      <Versions scope={scope} now={data.version} />
    </div>
  );
}

function Edit({ scope, now, schema, release }: { scope: Scope; now: Settings; schema?: Schema; release: () => void }) {
  const queries = useQueryClient();
  const [values, setValues] = useState<JsonObject>(now.values ?? {});
  const [problems, setProblems] = useState<Problems>({});
  const save = useMutation({
    mutationFn: () => settings.setSettings({ scope: asked(scope), values, replace: true, version: now.version }),
    onSuccess: async ({ twins }) => {
      release();
      notifications.show({ message: `Saved; ${twins === 1n ? "one twin has" : `${twins} twins have`} other settings now` });
      await Promise.all([queries.invalidateQueries({ queryKey: ["settings"] }), queries.invalidateQueries({ queryKey: ["twin"] })]);
    },
  });
  const part = schema?.properties && Object.keys(schema.properties).length > 0 ? partOf(schema) : undefined;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found = part ? check(part, values) : {};
    setProblems(found);
    if (Object.keys(found).length === 0) save.mutate();
  };
  const refused = save.error ? placeOf(save.error) : undefined;
  return (
    <form className="stack" onSubmit={submit} noValidate aria-label={`Settings of ${scope.kind} ${scope.id}`}>
      {part ? (
        <SchemaForm
          schema={part}
          value={values}
          onChange={(v) => setValues((v ?? {}) as JsonObject)}
          problems={refused === undefined ? problems : { ...problems, [refused]: explain(save.error) }}
        />
      ) : (
        <Json value={values} onChange={setValues} />
      )}
      {save.error && (
        <Alert color="red" variant="light" role="alert">
          {explain(save.error)}
        </Alert>
      )}
      <div className="actions">
        <Button type="submit" loading={save.isPending}>
          Save
        </Button>
      </div>
    </form>
  );
}

function Json({ value, onChange }: { value: JsonObject; onChange: (value: JsonObject) => void }) {
  const [text, setText] = useState(JSON.stringify(value, null, 2));
  const [wrong, setWrong] = useState(false);
  return (
    <JsonInput
      label="Settings (JSON)"
      description="each twin has those of them that its driver knows"
      error={wrong ? "is no JSON object yet" : undefined}
      autosize
      minRows={3}
      maxRows={16}
      value={text}
      onChange={(t) => {
        setText(t);
        const parsed = object(t);
        setWrong(parsed === undefined);
        if (parsed) onChange(parsed);
      }}
    />
  );
}

function object(text: string): JsonObject | undefined {
  try {
    const value = JSON.parse(text.trim() || "{}") as JsonValue;
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
