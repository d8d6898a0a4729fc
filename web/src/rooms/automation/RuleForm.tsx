import { Button, Select, TextInput } from "@mantine/core";

import { Cel } from "../../frame/Cel";
import { TwinInput } from "../../frame/TwinInput";
import type { Act, ActKind, RuleForm as Form } from "./form";

interface Props {
  form: Form;
  onChange: (form: Form) => void;
  /** It has its id for good. */
  stored: boolean;
  /** What the node said of it. */
  said?: string;
}

const kinds: { value: ActKind; label: string }[] = [
  { value: "set", label: "Set a value" },
  { value: "call", label: "Call an action" },
  { value: "raise", label: "Raise an alarm" },
  { value: "clear", label: "Clear the alarm" },
  { value: "mqtt", label: "Send by MQTT" },
  { value: "publish", label: "Publish to a topic" },
  { value: "wait", label: "Wait" },
];

/** What the fields of an action are called; those that it has not are not shown. */
const fields: Record<ActKind, { twin?: string; name?: string; value?: string }> = {
  set: { twin: "Of twin", name: "Property", value: "Value" },
  call: { twin: "Of twin", name: "Action", value: "Input, if any" },
  raise: { name: "Alarm, if not the rule's name", value: "Text" },
  clear: { name: "Alarm, if not the rule's name" },
  mqtt: { name: "Topic", value: "Payload" },
  publish: { name: "Topic" },
  wait: { value: "For" },
};

/** A rule by mouse: a twin's property, a condition, and what is done. */
export function RuleForm({ form, onChange, stored, said }: Props) {
  const set = (part: Partial<Form>) => onChange({ ...form, ...part });
  return (
    <div className="stack">
      <TextInput label="Name" placeholder="too-hot" disabled={stored} value={form.id} onChange={(e) => set({ id: e.currentTarget.value })} />
      <div className="rule-fields">
        <TwinInput label="When twin" project="" visible value={form.twin} onChange={(twin) => set({ twin })} />
        <TextInput label="has a new value of" placeholder="any property" value={form.property} onChange={(e) => set({ property: e.currentTarget.value })} />
      </div>
      <Cel label="If" placeholder="value > 28.0" value={form.if} onChange={(text) => set({ if: text })} said={said} />
      <div className="rule-fields">
        <TextInput label="It has to hold for" placeholder="5m" value={form.for} onChange={(e) => set({ for: e.currentTarget.value })} />
        <TextInput label="Until" placeholder="value < 26.0" spellCheck={false} value={form.until} onChange={(e) => set({ until: e.currentTarget.value })} />
      </div>
      <Acts title="Then" list={form.then} onChange={(then) => set({ then })} />
      <Acts title="When it ceases" list={form.otherwise} onChange={(otherwise) => set({ otherwise })} />
    </div>
  );
}

function Acts({ title, list, onChange }: { title: string; list: Act[]; onChange: (list: Act[]) => void }) {
  const change = (at: number, part: Partial<Act>) => onChange(list.map((a, i) => (i === at ? { ...a, ...part } : a)));
  return (
    <fieldset className="rule-acts" aria-label={title}>
      <legend>{title}</legend>
      {list.map((a, i) => {
        const has = fields[a.kind];
        return (
          <div className="rule-act" key={i} role="group" aria-label={`${title} ${i + 1}`}>
            <Select
              label="Do"
              data={kinds}
              value={a.kind}
              allowDeselect={false}
              onChange={(kind) => kind && change(i, { kind: kind as ActKind, twin: "", name: "", value: "" })}
            />
            {has.twin && <TwinInput label={has.twin} project="" visible value={a.twin} onChange={(twin) => change(i, { twin })} />}
            {has.name && <TextInput label={has.name} value={a.name} onChange={(e) => change(i, { name: e.currentTarget.value })} />}
            {has.value && <TextInput label={has.value} value={a.value} onChange={(e) => change(i, { value: e.currentTarget.value })} />}
            <Button variant="default" onClick={() => onChange(list.filter((_, n) => n !== i))}>
              Remove
            </Button>
          </div>
        );
      })}
      <Button variant="default" size="compact-sm" onClick={() => onChange([...list, { kind: "set", twin: "", name: "", value: "" }])}>
        Add an action
      </Button>
    </fieldset>
  );
}
