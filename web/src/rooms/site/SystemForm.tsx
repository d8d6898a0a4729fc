import { ActionIcon, Autocomplete, Button, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { sites } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { TwinInput } from "../../frame/TwinInput";
import type { System } from "../../gen/pollux/v1/site_pb";
import { useZones } from "../../model/catalog";
import { full, split } from "../../model/id";
import { TrashIcon } from "../../shell/icons";

interface Props {
  system: System;
  onSaved: (id: string) => unknown;
  onCancel?: () => void;
}

/** What a system is: title, zone and members in their order. */
export function SystemForm({ system, onSaved, onCancel }: Props) {
  const fresh = system.revision === 0n;
  const { data: zones } = useZones();
  const [id, setId] = useState(system.id);
  const [title, setTitle] = useState(system.title);
  const [zone, setZone] = useState(system.zone);
  const [members, setMembers] = useState(system.members.map((m) => ({ name: m.name, twin: m.twin })));
  const { project } = split(full(id));
  const save = useMutation({
    mutationFn: () => sites.putSystem({ system: { id: full(id), title, zone, members, revision: system.revision } }),
    onSuccess: ({ system: saved }) => onSaved(saved?.id ?? full(id)),
  });
  const put = (i: number, part: Partial<(typeof members)[0]>) => setMembers(members.map((m, j) => (i === j ? { ...m, ...part } : m)));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={fresh ? "New system" : "System"}>
      <div className="fields">
        {fresh && <TextInput label="Id" withAsterisk placeholder="hall, or project/hall" value={id} onChange={(e) => setId(e.currentTarget.value.trim())} />}
        <TextInput label="Title" value={title} onChange={(e) => setTitle(e.currentTarget.value)} />
        <Autocomplete label="Zone" data={(zones ?? []).map((z) => z.id).filter((z) => split(z).project === project)} value={zone} onChange={setZone} />
      </div>
      <div className="members" role="group" aria-label="Members">
        {members.map((m, i) => (
          <div key={i} className="member">
            <TextInput aria-label={`Name of member ${i + 1}`} placeholder="Display_1" value={m.name} onChange={(e) => put(i, { name: e.currentTarget.value.trim() })} />
            <TwinInput label={`Twin of member ${i + 1}`} project={project} value={m.twin} onChange={(twin) => put(i, { twin })} />
            <ActionIcon variant="subtle" color="gray" aria-label={`Remove member ${i + 1}`} onClick={() => setMembers(members.filter((_, j) => j !== i))}>
              <TrashIcon />
            </ActionIcon>
          </div>
        ))}
        <Button variant="default" size="compact-xs" onClick={() => setMembers([...members, { name: "", twin: "" }])}>
          Add a member
        </Button>
      </div>
      <Trouble error={save.error} />
      <div className="actions">
        {onCancel && (
          <Button variant="default" onClick={onCancel}>
            Cancel
          </Button>
        )}
        <Button type="submit" loading={save.isPending} disabled={!id}>
          {fresh ? "Create" : "Save"}
        </Button>
      </div>
    </form>
  );
}
