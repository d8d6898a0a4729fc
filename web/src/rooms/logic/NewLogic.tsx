import { Button, Select, TextInput } from "@mantine/core";
import { useState } from "react";

import { begin } from "./template";
import { Workbench } from "./Workbench";

/** Asks for the name of a new logic, and has it written. */
export function NewLogic({ onClose }: { onClose: (made: string) => void }) {
  const [project, setProject] = useState("default");
  const [name, setName] = useState("");
  const [system, setSystem] = useState("");
  const [what, setWhat] = useState<"twins" | "messages">("twins");
  const [begun, setBegun] = useState(false);
  const fit = /^[a-z0-9][a-z0-9_-]{0,63}$/.test(name) && project !== "";
  if (begun) {
    return (
      <section className="panel" aria-label="New logic">
        <h2>
          New logic <code>{`${project}/${name}`}</code>
        </h2>
        <Workbench id={`${project}/${name}`} driver={name} source={begin(name, what)} fresh={{ system }} onDone={onClose} />
      </section>
    );
  }
  return (
    <form
      className="panel"
      aria-label="New logic"
      onSubmit={(e) => {
        e.preventDefault();
        if (fit) setBegun(true);
      }}
    >
      <h2>New logic</h2>
      <div className="stack pad">
        <TextInput label="Name" description="Small letters, digits, - and _." value={name} error={name && !fit ? "not a name" : undefined} onChange={(e) => setName(e.currentTarget.value)} autoFocus />
        <TextInput label="Project" value={project} onChange={(e) => setProject(e.currentTarget.value)} />
        <TextInput label="System" description="The room whose members it calls by name; empty: none." value={system} onChange={(e) => setSystem(e.currentTarget.value)} />
        <Select
          label="It"
          data={[
            { value: "twins", label: "reacts to twins" },
            { value: "messages", label: "judges messages of routes and rules" },
          ]}
          value={what}
          allowDeselect={false}
          onChange={(v) => setWhat(v === "messages" ? "messages" : "twins")}
        />
        <div className="actions">
          <Button variant="default" onClick={() => onClose("")}>
            Cancel
          </Button>
          <Button type="submit" disabled={!fit}>
            Begin
          </Button>
        </div>
      </div>
    </form>
  );
}
