import { Autocomplete, Button, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { Link } from "wouter";

import { sites, twins } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Held } from "../../frame/Held";
import { Trouble } from "../../frame/Room";
import type { Zone } from "../../gen/pollux/v1/site_pb";
import { full, split, twinPath } from "../../model/id";
import { readPlace, writePlace } from "../../model/place";
import { StatusBadge } from "../../model/StatusBadge";
import { count } from "../../model/value";
import { systemPath, useSystems } from "./tabs";

interface Props {
  zone: Zone;
  zones: Zone[];
  onChanged: () => unknown;
  onAdd: () => void;
  onDeleted: () => unknown;
}

/** One zone: its names, the twins and systems in it. */
export function ZoneDetail({ zone, zones, onChanged, onAdd, onDeleted }: Props) {
  const [asking, setAsking] = useState(false);
  const { data: systems } = useSystems();
  const here = (systems ?? []).filter((s) => s.zone === zone.id);
  const below = zones.filter((z) => z.parent === zone.id);
  return (
    <section className="panel" aria-label={`Zone ${zone.id}`}>
      <div className="detail-head">
        <h2>
          {zone.title || split(zone.id).name} <code>{zone.id}</code>
        </h2>
        <span className="head-actions">
          <Button variant="default" onClick={onAdd}>
            Add a zone in it
          </Button>
          <Button variant="default" onClick={() => setAsking(true)}>
            Delete
          </Button>
        </span>
      </div>
      <Held record={zone} revision={zone.revision}>
        {(held, release) => (
          <ZoneForm
            zone={held}
            zones={zones}
            onSaved={() => {
              release();
              return onChanged();
            }}
          />
        )}
      </Held>
      {(below.length > 0 || here.length > 0) && (
        <p className="pad">
          {below.length > 0 && <span className="muted">{count(below.length)} zones directly in it. </span>}
          {here.map((s) => (
            <span key={s.id}>
              System <Link href={systemPath(s.id)}>{s.title || s.id}</Link>.{" "}
            </span>
          ))}
        </p>
      )}
      <TwinsOf zone={zone.id} />
      <Ask opened={asking} onClose={() => setAsking(false)} title="Delete zone" verb="Delete zone" run={() => sites.deleteZone({ id: zone.id })} onDone={onDeleted}>
        <b>{zone.id}</b> goes, with what is set for it. While twins, systems or zones are in it, the node keeps it.
      </Ask>
    </section>
  );
}

/** The first twins in a zone and below; all are a link away. */
function TwinsOf({ zone }: { zone: string }) {
  const { data } = useQuery({
    queryKey: ["twins", "of zone", zone],
    queryFn: ({ signal }) => twins.listTwins({ filter: { zone }, pageSize: 20, state: true }, { signal }),
    refetchInterval: 5000,
  });
  if (!data) return null;
  return (
    <div className="pad">
      <h3>
        Twins in it and below{" "}
        <Link href={`/twins?zone=${encodeURIComponent(zone)}`} className="zone-all">
          all of them, live
        </Link>
      </h3>
      {data.twins.length === 0 && <p className="muted">None. A twin gets its zone in its settings, or when it is made.</p>}
      <ul className="zone-twins" aria-label="Twins in it">
        {data.twins.map((t) => (
          <li key={t.id}>
            <Link href={twinPath(t.id)}>{t.id}</Link> <StatusBadge status={t.state?.status} stopped={t.stopped} />
          </li>
        ))}
      </ul>
      {data.nextPageToken && <p className="muted">The first 20.</p>}
    </div>
  );
}

interface FormProps {
  /** Undefined: a new one. */
  zone?: Zone;
  parent?: string;
  zones: Zone[];
  onSaved: (id: string) => unknown;
  onCancel?: () => void;
}

const kinds = ["region", "site", "building", "level", "room", "rack"];

export function ZoneForm({ zone, parent: within = "", zones, onSaved, onCancel }: FormProps) {
  const [id, setId] = useState(zone?.id ?? (within ? `${split(within).project}/` : ""));
  const [title, setTitle] = useState(zone?.title ?? "");
  const [kind, setKind] = useState(zone?.kind ?? "");
  const [parent, setParent] = useState(zone?.parent ?? within);
  const was = writePlace(zone?.place);
  const [place, setPlace] = useState(was);
  const save = useMutation({
    mutationFn: async () => sites.putZone({ zone: { id: full(id), title, kind, parent, place: readPlace(place), revision: zone?.revision ?? 0n } }),
    onSuccess: ({ zone: saved }) => onSaved(saved?.id ?? full(id)),
  });
  const { project } = split(full(id));
  const changed = !zone || title !== zone.title || kind !== zone.kind || parent !== zone.parent || place !== was;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={zone ? "Zone" : "New zone"}>
      <div className="fields">
        {!zone && <TextInput label="Id" withAsterisk placeholder="hq, or project/hq" data-autofocus value={id} onChange={(e) => setId(e.currentTarget.value.trim())} />}
        <TextInput label="Title" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        <Autocomplete label="Kind" placeholder="building, level, room …" data={kinds} value={kind} onChange={setKind} />
        <Select
          label="In"
          placeholder="nothing: at the top"
          clearable
          searchable
          limit={200}
          data={zones.filter((z) => z.id !== zone?.id && split(z.id).project === project).map((z) => ({ value: z.id, label: z.title ? `${z.title} (${split(z.id).name})` : split(z.id).name }))}
          value={parent || null}
          onChange={(v) => setParent(v ?? "")}
        />
        <TextInput label="Place" placeholder="52.52, 13.41" description="latitude, longitude: of the sun that schedules follow" value={place} onChange={(e) => setPlace(e.currentTarget.value)} />
      </div>
      <Trouble error={save.error} />
      <div className="actions">
        {onCancel && (
          <Button variant="default" onClick={onCancel}>
            Cancel
          </Button>
        )}
        <Button type="submit" loading={save.isPending} disabled={!id || id.endsWith("/") || !changed}>
          {zone ? "Save" : "Create"}
        </Button>
      </div>
    </form>
  );
}
