import { Alert, Autocomplete, Button, Modal, TagsInput, TextInput } from "@mantine/core";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { useLocation } from "wouter";

import { twins } from "../../api/client";
import { explain, placeOf } from "../../api/errors";
import { KindSelect } from "../../frame/KindSelect";
import type { Driver } from "../../gen/pollux/v1/driver_pb";
import { useDrivers, useZones } from "../../model/catalog";
import { full, split, twinPath } from "../../model/id";
import { valueOf, type Kind } from "../../model/kind";
import { labelsOf } from "../../model/labels";
import { parseManifest } from "../../model/thing";
import { warn } from "../../model/warn";
import { group } from "../../model/versions";
import { check } from "../../schema/check";
import { SchemaForm } from "../../schema/Form";
import { initial, type Problems } from "../../schema/types";

interface Props {
  opened: boolean;
  onClose: () => void;
  /** Chosen when the dialogue opens. */
  kind?: Kind;
}

export function CreateTwin({ opened, onClose, kind }: Props) {
  return (
    <Modal opened={opened} onClose={onClose} title="Create twin" size="lg" closeButtonProps={{ "aria-label": "Close" }}>
      <CreateForm onClose={onClose} preset={kind} />
    </Modal>
  );
}

const idPattern = /^([a-z0-9][a-z0-9._-]{0,127}\/)?[a-z0-9][a-z0-9._-]{0,127}$/;

function CreateForm({ onClose, preset }: { onClose: () => void; preset?: Kind }) {
  const { data: list } = useDrivers();
  const { data: zones } = useZones();
  const [, go] = useLocation();
  const queries = useQueryClient();
  const home = preset?.model ? split(preset.model).project : "default";
  const [id, setId] = useState(home === "default" ? "" : `${home}/`);
  const [kind, setKind] = useState<Kind>(preset ?? { driver: "", model: "" });
  const [uri, setUri] = useState("");
  const [zone, setZone] = useState("");
  const [labels, setLabels] = useState<string[]>([]);
  const [settings, setSettings] = useState<JsonValue>();
  const [problems, setProblems] = useState<Problems>({});
  const [trouble, setTrouble] = useState<string>();
  const [busy, setBusy] = useState(false);

  const chosen = kind.driver ? find(list ?? [], kind.driver) : undefined;
  const manifest = parseManifest(chosen?.manifestJson);
  const schema = manifest?.settings;
  const value = settings ?? (schema && initial(schema)) ?? {};
  // The node's own broker and webhooks need no address.
  const addressed = (manifest?.transports ?? []).filter((t) => t.scheme !== "mqtt" && t.scheme !== "webhook");
  const wantsUri = addressed.length > 0;
  const needsUri = wantsUri && addressed.length === manifest?.transports.length;

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const found: Problems = schema ? check(schema, value) : {};
    if (!idPattern.test(id)) found["#id"] = "a to z, digits, dot, dash, underscore; `project/name`, or a bare name";
    if (!chosen && !kind.model) found["#kind"] = "is needed";
    if (needsUri && !uri.trim()) found["#uri"] = "is needed";
    setProblems(found);
    setTrouble(undefined);
    if (Object.keys(found).length > 0) return;
    setBusy(true);
    try {
      const { twin, warnings } = await twins.createTwin({
        twin: {
          id: full(id),
          ...kind,
          uri: wantsUri ? uri.trim() : "",
          settings: value as JsonObject,
          zone: zone && full(zone),
          labels: labelsOf(labels),
        },
      });
      await queries.invalidateQueries({ queryKey: ["twins"] });
      onClose();
      warn(`${twin?.id ?? full(id)} created`, warnings);
      go(twinPath(twin?.id ?? full(id)));
    } catch (error) {
      setTrouble(explain(error));
      const place = placeOf(error, ["id", "driver", "model", "uri"]);
      if (place !== undefined) setProblems({ [place === "#driver" || place === "#model" ? "#kind" : place]: explain(error) });
    } finally {
      setBusy(false);
    }
  };

  return (
    <form onSubmit={(e) => void submit(e)} className="stack" noValidate aria-label="Create twin">
      <div className="columns">
        <TextInput
          label="Id"
          withAsterisk
          data-autofocus
          placeholder="lecture-hall/projector-1"
          description="project/name; a bare name is of the project default"
          value={id}
          error={problems["#id"]}
          onChange={(e) => setId(e.currentTarget.value.trim())}
        />
        <KindSelect
          project={split(full(id)).project}
          versions
          description={chosen ? `${chosen.title || chosen.name}, version ${chosen.version}` : kind.model ? "it reads the messages that come for the twin" : "a driver speaks with the device, a model reads its messages"}
          value={kind}
          error={problems["#kind"]}
          onChange={(next) => {
            setKind(next);
            setSettings(undefined);
            setProblems({});
          }}
        />
        {wantsUri && (
          <TextInput
            label="Address"
            withAsterisk={needsUri}
            className="wide"
            placeholder={addressed.map((t) => `${t.scheme}://10.0.0.7${t.default_port ? `:${t.default_port}` : ""}`).join(" or ")}
            value={uri}
            error={problems["#uri"]}
            onChange={(e) => setUri(e.currentTarget.value)}
          />
        )}
        <Autocomplete label="Zone" placeholder="none" data={(zones ?? []).map((z) => z.id)} value={zone} onChange={setZone} />
        <TagsInput
          label="Labels"
          placeholder={labels.length ? "" : "key=value, Enter"}
          value={labels}
          onChange={(l) => setLabels(l.filter((x) => x.indexOf("=") > 0))}
        />
      </div>
      {schema?.properties && Object.keys(schema.properties).length > 0 && (
        <section className="settings-box" aria-label="Settings">
          <h3>Settings</h3>
          <SchemaForm key={valueOf(kind)} schema={schema} value={value} onChange={(v) => setSettings(v ?? {})} problems={problems} />
        </section>
      )}
      {trouble && (
        <Alert color="red" role="alert" variant="light">
          {trouble}
        </Alert>
      )}
      <div className="actions">
        <Button variant="default" onClick={onClose}>
          Cancel
        </Button>
        <Button type="submit" loading={busy}>
          Create
        </Button>
      </div>
    </form>
  );
}

function find(list: Driver[], driver: string): Driver | undefined {
  return list.find((d) => `${d.name}@${d.version}` === driver) ?? group(list).find((g) => g.name === driver)?.newest;
}
