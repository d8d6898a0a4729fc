import { Autocomplete, Button, TagsInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { useLocation } from "wouter";

import { sites } from "../../api/client";
import { KindSelect } from "../../frame/KindSelect";
import { Trouble } from "../../frame/Room";
import type { InboxEntry } from "../../gen/pollux/v1/site_pb";
import { useZones } from "../../model/catalog";
import { split, twinPath } from "../../model/id";
import { valueOf } from "../../model/kind";
import { labelsOf } from "../../model/labels";
import { nameFrom } from "./names";

/** Makes a twin of a sender: of a model, or of a driver. */
export function Claim({ entry, onClaimed }: { entry: InboxEntry; onClaimed: () => void }) {
  const { project } = split(entry.id);
  const queries = useQueryClient();
  const [, go] = useLocation();
  const { data: zones } = useZones();
  const [name, setName] = useState(nameFrom(entry.alias?.value || entry.name));
  const [kind, setKind] = useState({ driver: entry.driver, model: "" });
  const [zone, setZone] = useState("");
  const [labels, setLabels] = useState<string[]>([]);
  const claim = useMutation({
    mutationFn: () => sites.claimInbox({ id: entry.id, twin: { id: `${project}/${name}`, zone: zone.trim(), labels: labelsOf(labels), ...kind } }),
    onSuccess: async ({ twin }) => {
      await Promise.all(["inbox", "twins", "ingest status"].map((k) => queries.invalidateQueries({ queryKey: [k] })));
      onClaimed();
      go(twinPath(twin?.id ?? `${project}/${name}`));
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    claim.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label="Make a twin of it">
      <h3>Make a twin of it</h3>
      <div className="fields">
        <TextInput label="Name" description={`in ${project}`} withAsterisk value={name} onChange={(e) => setName(e.currentTarget.value.trim())} />
        <KindSelect project={project} value={kind} onChange={setKind} />
        <Autocomplete label="Zone" description="where it is" placeholder="none" data={(zones ?? []).map((z) => z.id).filter((z) => split(z).project === project)} value={zone} onChange={setZone} />
        <TagsInput label="Labels" description="key=value, Enter" value={labels} onChange={(l) => setLabels(l.filter((x) => x.indexOf("=") > 0))} />
      </div>
      <Trouble error={claim.error} />
      <div className="actions">
        <span className="muted">What it sends from then on is the twin’s.</span>
        <Button type="submit" loading={claim.isPending} disabled={!name || !valueOf(kind)}>
          Claim
        </Button>
      </div>
    </form>
  );
}
