import { ActionIcon, Button, TextInput } from "@mantine/core";

import { Cel } from "../../frame/Cel";
import { TrashIcon } from "../../shell/icons";

/** A property that is computed, and by which expression. */
export interface Formula {
  name: string;
  expression: string;
}

interface Props {
  list: Formula[];
  onChange: (list: Formula[]) => void;
  /** What the node said of one of them, by its name. */
  said?: { name: string; text: string };
}

/** The properties that a twin computes of itself and of others, beside those that its model computes. */
export function Computed({ list, onChange, said }: Props) {
  const put = (i: number, part: Partial<Formula>) => onChange(list.map((f, j) => (i === j ? { ...f, ...part } : f)));
  return (
    <section className="settings-box" aria-label="Computed properties">
      <h3>Computed properties</h3>
      {list.map((f, i) => (
        <div key={i} className="formula">
          <TextInput label="Property" placeholder="mean" value={f.name} onChange={(e) => put(i, { name: e.currentTarget.value.trim() })} />
          <Cel
            label={`Expression of ${f.name || "it"}`}
            placeholder={'avg(zone.twins("room").temperature)'}
            value={f.expression}
            onChange={(expression) => put(i, { expression })}
            said={said && said.name === f.name ? said.text : undefined}
          />
          <ActionIcon variant="subtle" color="gray" aria-label={`Remove ${f.name || "it"}`} onClick={() => onChange(list.filter((_, j) => i !== j))}>
            <TrashIcon />
          </ActionIcon>
        </div>
      ))}
      <div>
        <Button size="compact-sm" variant="default" onClick={() => onChange([...list, { name: "", expression: "" }])}>
          Compute a property
        </Button>
      </div>
    </section>
  );
}
