import { Alert, Autocomplete, Button, TagsInput, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { create, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { twins } from "../../api/client";
import { explain, placeOf } from "../../api/errors";
import { KindSelect } from "../../frame/KindSelect";
import { AliasSchema, type Alias, type Twin } from "../../gen/pollux/v1/twin_pb";
import { useDrivers, useZones } from "../../model/catalog";
import { split, splitDriver } from "../../model/id";
import type { Kind } from "../../model/kind";
import { labelsOf, listOf } from "../../model/labels";
import { parseManifest } from "../../model/thing";
import { dateTime, millis } from "../../model/value";
import { warn } from "../../model/warn";
import { check } from "../../schema/check";
import { SchemaForm } from "../../schema/Form";
import type { Problems, Schema } from "../../schema/types";
import { withInherited } from "../../settings/scope";
import { Computed, type Formula } from "./Computed";
import { Origins, useSettings } from "./Origins";

/** What a person configured: driver or model, address, settings, labels, zone, selector, aliases; and what others set for it. Saved against the revision that was read. */
export function SettingsTab({ twin, release }: { twin: Twin; release: () => void }) {
  const { data: drivers } = useDrivers();
  const { data: zones } = useZones();
  const queries = useQueryClient();
  const [draft, setDraft] = useState(() => copy(twin));
  const [problems, setProblems] = useState<Problems>({});
  const written = settingsSchema(drivers ?? [], draft.kind.driver, twin.driverDigest);
  const { data: values } = useSettings(twin);
  const schema = withInherited(written, values ?? []);
  const save = useMutation({
    mutationFn: () => twins.updateTwin({ twin: merged(twin, draft) }),
    onSuccess: async ({ warnings }) => {
      release();
      if (warnings.length === 0) notifications.show({ message: "Saved" });
      warn("Saved", warnings);
      await Promise.all([queries.invalidateQueries({ queryKey: ["twin", twin.id] }), queries.invalidateQueries({ queryKey: ["settings"] })]);
    },
  });
  const refused = save.error ? placeOf(save.error) : undefined;
  const put = (part: Partial<Draft>) => setDraft({ ...draft, ...part });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found = schema ? check(schema, draft.settings) : {};
    setProblems(found);
    if (Object.keys(found).length === 0) save.mutate();
  };

  return (
    <div className="settings-grid">
      <form className="panel settings" onSubmit={submit} noValidate aria-label="Settings">
        <div className="columns">
          <KindSelect
            project={split(twin.id).project}
            only={twin.model ? "model" : "driver"}
            versions
            description={twin.model ? "it reads the messages that come for the twin" : "its newest version, or one that stays"}
            value={draft.kind}
            onChange={(kind) => put({ kind })}
          />
          {!twin.model && (
            <TextInput label="Address" description="empty where the driver needs none" value={draft.uri} onChange={(e) => put({ uri: e.currentTarget.value })} />
          )}
          <Autocomplete label="Zone" data={(zones ?? []).map((z) => z.id)} value={draft.zone} onChange={(zone) => put({ zone })} />
          <TextInput label="Via" description="the gateway twin that speaks for this one" value={draft.via} onChange={(e) => put({ via: e.currentTarget.value })} />
          <TextInput
            className="wide"
            label="Selector"
            description="on which nodes it may live, such as site=berlin,zone!=a,gpu; empty: on every node"
            value={draft.selector}
            onChange={(e) => put({ selector: e.currentTarget.value })}
          />
          <TagsInput
            label="Labels"
            description="key=value, Enter"
            value={draft.labels}
            onChange={(labels) => put({ labels: labels.filter((l) => l.indexOf("=") > 0) })}
          />
          <TagsInput
            label="Aliases"
            description="network/key/value: outside names of this twin, Enter"
            value={draft.aliases}
            onChange={(aliases) => put({ aliases: aliases.filter((a) => a.split("/").length >= 3) })}
          />
        </div>
        {schema?.properties && Object.keys(schema.properties).length > 0 && (
          <section className="settings-box" aria-label="Driver settings">
            <h3>Driver settings</h3>
            <SchemaForm
              schema={schema}
              value={draft.settings}
              onChange={(v) => put({ settings: (v ?? {}) as JsonObject })}
              problems={refused === undefined ? problems : { ...problems, [refused]: explain(save.error) }}
            />
          </section>
        )}
        <Computed list={draft.computed} onChange={(computed) => put({ computed })} said={saidOf(save.error)} />
        {save.error && (
          <Alert color="red" variant="light" role="alert">
            {explain(save.error)}
          </Alert>
        )}
        <div className="actions">
          <span className="muted">
            Revision {String(twin.revision)}, created {dateTime(millis(twin.createTime))}, changed {dateTime(millis(twin.updateTime))}
          </span>
          <Button variant="default" onClick={() => {
              setDraft(copy(twin));
              release();
            }}
          >
            Undo
          </Button>
          <Button type="submit" loading={save.isPending}>
            Save
          </Button>
        </div>
      </form>
      <Origins twin={twin} schema={written} />
    </div>
  );
}

interface Draft {
  kind: Kind;
  uri: string;
  zone: string;
  via: string;
  selector: string;
  labels: string[];
  aliases: string[];
  settings: JsonValue;
  computed: Formula[];
}

function copy(twin: Twin): Draft {
  return {
    kind: { driver: twin.driver, model: twin.model },
    uri: twin.uri,
    zone: twin.zone,
    via: twin.via,
    selector: twin.selector,
    labels: listOf(twin.labels),
    aliases: twin.aliases.map((a) => `${a.network}/${a.key}/${a.value}`),
    settings: twin.settings ?? {},
    computed: Object.entries(twin.derived).map(([name, expression]) => ({ name, expression })),
  };
}

function merged(twin: Twin, draft: Draft) {
  return {
    ...twin,
    state: undefined,
    ...draft.kind,
    uri: draft.uri.trim(),
    zone: draft.zone.trim(),
    via: draft.via.trim(),
    selector: draft.selector.trim(),
    labels: labelsOf(draft.labels),
    aliases: draft.aliases.map(alias),
    settings: draft.settings as JsonObject,
    derived: Object.fromEntries(draft.computed.filter((f) => f.name).map((f) => [f.name, f.expression])),
  };
}

function alias(text: string): Alias {
  const [network = "", key = "", ...value] = text.split("/");
  return create(AliasSchema, { network, key, value: value.join("/") });
}

/** What the node said of a computed property, and of which. */
function saidOf(error: unknown): { name: string; text: string } | undefined {
  const place = error ? placeOf(error) : undefined;
  return place?.startsWith("/derived/") ? { name: place.slice("/derived/".length), text: explain(error) } : undefined;
}

function settingsSchema(
  list: { name: string; version: string; digest: string; manifestJson: string }[],
  driver: string,
  digest: string,
): Schema | undefined {
  const { name, version } = splitDriver(driver);
  const found =
    list.find((d) => d.name === name && d.version === version) ??
    list.find((d) => d.name === name && d.digest === digest) ??
    list.find((d) => d.name === name);
  return parseManifest(found?.manifestJson)?.settings;
}
