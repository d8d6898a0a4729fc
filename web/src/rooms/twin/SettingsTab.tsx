import { Alert, Autocomplete, Button, TagsInput, TextInput } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { create, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { twins } from "../../api/client";
import { explain, placeOf } from "../../api/errors";
import { AliasSchema, type Alias, type Twin } from "../../gen/pollux/v1/twin_pb";
import { useDrivers, useZones } from "../../model/catalog";
import { splitDriver } from "../../model/id";
import { parseManifest } from "../../model/thing";
import { dateTime, millis } from "../../model/value";
import { warn } from "../../model/warn";
import { check } from "../../schema/check";
import { SchemaForm } from "../../schema/Form";
import type { Problems, Schema } from "../../schema/types";
import { withInherited } from "../../settings/scope";
import { Origins, useSettings } from "./Origins";

/** What a person configured: driver, address, settings, labels, zone, selector, aliases; and what others set for it. Saved against the revision that was read. */
export function SettingsTab({ twin }: { twin: Twin }) {
  const { data: drivers } = useDrivers();
  const { data: zones } = useZones();
  const queries = useQueryClient();
  const [draft, setDraft] = useState(() => copy(twin));
  const [problems, setProblems] = useState<Problems>({});
  const written = settingsSchema(drivers ?? [], draft.driver, twin.driverDigest);
  const { data: values } = useSettings(twin);
  const schema = withInherited(written, values ?? []);
  const save = useMutation({
    mutationFn: () => twins.updateTwin({ twin: merged(twin, draft) }),
    onSuccess: async ({ warnings }) => {
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
  const versions = (drivers ?? []).flatMap((d) => [d.name, `${d.name}@${d.version}`]);

  return (
    <div className="settings-grid">
      <form className="panel settings" onSubmit={submit} noValidate aria-label="Settings">
        <div className="columns">
          <Autocomplete
            label="Driver"
            description="NAME follows the newest version, NAME@VERSION stays"
            data={[...new Set(versions)]}
            value={draft.driver}
            onChange={(driver) => put({ driver })}
          />
          <TextInput label="Address" description="empty where the driver needs none" value={draft.uri} onChange={(e) => put({ uri: e.currentTarget.value })} />
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
        {save.error && (
          <Alert color="red" variant="light" role="alert">
            {explain(save.error)}
          </Alert>
        )}
        <div className="actions">
          <span className="muted">
            Revision {String(twin.revision)}, created {dateTime(millis(twin.createTime))}, changed {dateTime(millis(twin.updateTime))}
          </span>
          <Button variant="default" onClick={() => setDraft(copy(twin))}>
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
  driver: string;
  uri: string;
  zone: string;
  via: string;
  selector: string;
  labels: string[];
  aliases: string[];
  settings: JsonValue;
}

function copy(twin: Twin): Draft {
  return {
    driver: twin.driver,
    uri: twin.uri,
    zone: twin.zone,
    via: twin.via,
    selector: twin.selector,
    labels: Object.entries(twin.labels).map(([k, v]) => `${k}=${v}`),
    aliases: twin.aliases.map((a) => `${a.network}/${a.key}/${a.value}`),
    settings: twin.settings ?? {},
  };
}

function merged(twin: Twin, draft: Draft) {
  return {
    ...twin,
    state: undefined,
    driver: draft.driver.trim(),
    uri: draft.uri.trim(),
    zone: draft.zone.trim(),
    via: draft.via.trim(),
    selector: draft.selector.trim(),
    labels: Object.fromEntries(draft.labels.map((l) => [l.slice(0, l.indexOf("=")).trim(), l.slice(l.indexOf("=") + 1).trim()])),
    aliases: draft.aliases.map(alias),
    settings: draft.settings as JsonObject,
  };
}

function alias(text: string): Alias {
  const [network = "", key = "", ...value] = text.split("/");
  return create(AliasSchema, { network, key, value: value.join("/") });
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
