import { Button, Loader, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { automation } from "../../api/client";
import { explain } from "../../api/errors";
import { Trouble } from "../../frame/Room";
import { full } from "../../model/id";
import { write } from "./text";

/** The rules that come with Pollux: one is chosen, its parameters are filled in, and it is a text to look at before it is created. */
export function RuleTemplates({ onFilled }: { onFilled: (text: string) => void }) {
  const { data, error } = useQuery({ queryKey: ["rule-templates"], queryFn: ({ signal }) => automation.listRuleTemplates({}, { signal }), staleTime: Infinity });
  const [name, setName] = useState<string | null>(null);
  const [id, setID] = useState("");
  const [values, setValues] = useState<Record<string, string>>({});
  const template = data?.templates.find((t) => t.name === name);
  const fill = useMutation({
    mutationFn: async () => {
      const given = Object.fromEntries(Object.entries(values).filter(([, v]) => v !== ""));
      const { rule } = await automation.fillRuleTemplate({ template: name ?? "", id: full(id === "" ? (name ?? "") : id), values: given });
      return rule ? write(rule) : "";
    },
    onSuccess: onFilled,
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    fill.mutate();
  };
  if (!data) return error ? <Trouble error={error} inside /> : <Loader size="sm" m="md" aria-label="Loading" />;
  return (
    <form className="stack pad" onSubmit={submit} aria-label="Template">
      <Select
        label="Template"
        data={data.templates.map((t) => ({ value: t.name, label: t.title }))}
        value={name}
        onChange={(to) => {
          setName(to);
          setValues({});
        }}
      />
      {template && (
        <>
          <p className="muted">{template.about}</p>
          <TextInput label="Name" placeholder={template.name} value={id} onChange={(e) => setID(e.currentTarget.value)} />
          <div className="rule-fields">
            {template.parameters.map((p) => (
              <TextInput
                key={`${template.name} ${p.name}`}
                label={p.name}
                description={p.about}
                placeholder={p.default}
                required={p.required}
                value={values[p.name] ?? ""}
                onChange={(e) => setValues({ ...values, [p.name]: e.currentTarget.value })}
              />
            ))}
          </div>
          <Trouble error={fill.error && explain(fill.error)} />
          <div className="actions">
            <Button type="submit" loading={fill.isPending}>
              Fill in
            </Button>
          </div>
        </>
      )}
    </form>
  );
}
