import { SegmentedControl } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { automation } from "../../api/client";
import { explain } from "../../api/errors";
import { Trouble } from "../../frame/Room";
import { Foot } from "./Foot";
import { blankForm, formOf, textOf, type RuleForm as Form } from "./form";
import { RuleForm } from "./RuleForm";
import { RuleTemplates } from "./RuleTemplates";
import { TextEditor } from "./TextEditor";

interface Props {
  /** The one that is changed; empty: a new one. */
  id: string;
  /** Its text; empty: nothing yet. */
  text: string;
  save: (text: string) => Promise<string>;
  onClose: (id: string) => void;
}

type Way = "form" | "text" | "template";

/** A rule by mouse, as text, or of a template. Form and text say the same, so one can go from one to the other. */
export function RuleEditor({ id, text: first, save, onClose }: Props) {
  const [text, setText] = useState(first);
  const [form, setForm] = useState<Form | undefined>(first === "" ? blankForm : formOf(first));
  const [way, setWay] = useState<Way>(form ? "form" : "text");
  const [wrong, setWrong] = useState<string>();
  const go = (to: Way) => {
    try {
      if (way === "form" && form && to === "text") setText(textOf(form));
      if (way === "text" && to === "form") setForm(text === "" ? blankForm : formOf(text));
      setWrong(undefined);
      setWay(to);
    } catch (e) {
      setWrong(explain(e));
    }
  };
  const ways = [
    { value: "form", label: "Form" },
    { value: "text", label: "Text" },
    ...(id === "" ? [{ value: "template", label: "Template" }] : []),
  ];
  return (
    <>
      <div className="pad">
        <SegmentedControl aria-label="How" data={ways} value={way} onChange={(to) => go(to as Way)} />
        <Trouble error={wrong} />
      </div>
      {way === "text" && <TextEditor kind="rule" id={id} text={text} onText={setText} save={save} remove={() => automation.deleteRule({ id })} onClose={onClose} />}
      {way === "form" && (form ? <FormEditor id={id} form={form} onChange={setForm} save={save} onClose={onClose} /> : <p className="muted pad">This rule has more than the form has fields for. It is changed as text.</p>)}
      {way === "template" && (
        <RuleTemplates
          onFilled={(filled) => {
            setText(filled);
            setForm(formOf(filled));
            setWay("text");
          }}
        />
      )}
    </>
  );
}

function FormEditor({ id, form, onChange, save, onClose }: { id: string; form: Form; onChange: (form: Form) => void; save: Props["save"]; onClose: Props["onClose"] }) {
  const client = useQueryClient();
  const { mutate, isPending, error } = useMutation({
    mutationFn: async () => save(textOf(form)),
    onSuccess: async (saved) => {
      await client.invalidateQueries({ queryKey: ["rule"] });
      onClose(saved);
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    mutate();
  };
  return (
    <form className="stack pad" onSubmit={submit} aria-label={id ? `Change ${id}` : "New rule"}>
      <RuleForm form={form} onChange={onChange} stored={id !== ""} said={error ? explain(error) : undefined} />
      <Trouble error={error && explain(error)} />
      <Foot kind="rule" id={id} pending={isPending} remove={() => automation.deleteRule({ id })} onClose={onClose} />
    </form>
  );
}
