import { Button, Checkbox, NativeSelect, PasswordInput, TagsInput, Textarea, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { notifiers } from "../../api/client";
import { Ask } from "../../frame/Ask";
import { Trouble } from "../../frame/Room";
import type { Notifier } from "../../gen/pollux/v1/notify_pb";
import { empty, kinds, read, shown, write, type Draft, type Kind } from "./draft";

type TextField = { [K in keyof Draft]: Draft[K] extends string ? K : never }[keyof Draft];

const texts: Partial<Record<TextField, { label: string; description?: string; placeholder?: string }>> = {
  host: { label: "Server", placeholder: "smtp.example.com" },
  port: { label: "Port", placeholder: "587; with TLS 465" },
  user: { label: "User" },
  from: { label: "From", placeholder: "house@example.com" },
  account: { label: "Account" },
  url: { label: "Address", placeholder: "https://" },
  topic: { label: "Topic", placeholder: "alerts/house" },
  logic: { label: "Logic", description: "its run tells them", placeholder: "project/discord" },
};

/** Makes a notifier (null), or changes one. */
export function NotifierForm({ notifier, onClose }: { notifier: Notifier | null; onClose: (id: string) => void }) {
  const queries = useQueryClient();
  const [draft, setDraft] = useState<Draft>(notifier ? read(notifier) : empty);
  const [removeSecret, setRemoveSecret] = useState(false);
  const [asking, setAsking] = useState(false);
  const set = (change: Partial<Draft>) => setDraft((d) => ({ ...d, ...change }));
  const again = () => queries.invalidateQueries({ queryKey: ["notifier"] });
  const save = useMutation({
    mutationFn: async () => {
      const m = write(removeSecret ? { ...draft, secret: "" } : draft, notifier);
      return notifier ? (await notifiers.updateNotifier({ notifier: m, removeSecret: has("secret") && removeSecret })).notifier : (await notifiers.createNotifier({ notifier: m })).notifier;
    },
    onSuccess: async (m) => {
      await again();
      onClose(m?.id ?? "");
    },
  });
  const has = (name: keyof Draft) => shown[draft.kind].includes(name);
  const missing = !draft.id || kinds[draft.kind].needs.some((name) => !draft[name]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <section className="panel" aria-label={notifier ? `Change ${notifier.id}` : "New notifier"}>
      <h2>{notifier ? `Change ${notifier.id}` : "New notifier"}</h2>
      <form className="stack pad" onSubmit={submit} aria-label="Notifier">
        <div className="fields">
          <TextInput label="Name" placeholder="mail, or project/mail" withAsterisk disabled={notifier !== null} value={draft.id} onChange={(e) => set({ id: e.currentTarget.value.trim() })} />
          <NativeSelect label="Kind" data={(Object.keys(kinds) as Kind[]).map((k) => ({ value: k, label: kinds[k].name }))} value={draft.kind} onChange={(e) => set({ kind: e.currentTarget.value as Kind })} />
          {(Object.keys(texts) as TextField[]).filter(has).map((name) => (
            <TextInput key={name} {...texts[name]} withAsterisk={(kinds[draft.kind].needs as readonly string[]).includes(name)} value={draft[name]} onChange={(e) => set({ [name]: e.currentTarget.value.trim() })} />
          ))}
          {has("security") && (
            <NativeSelect label="Security" value={draft.security} onChange={(e) => set({ security: e.currentTarget.value })} data={[{ value: "starttls", label: "STARTTLS" }, { value: "tls", label: "TLS from the first byte" }, { value: "none", label: "none: in the clear" }]} />
          )}
          {has("to") && <TagsInput label="To" description="Enter after each" value={draft.to} onChange={(to) => set({ to })} />}
          {has("keyed") && <Checkbox mt="lg" label="Whom it tells knows a repetition by its key" checked={draft.keyed} onChange={(e) => set({ keyed: e.currentTarget.checked })} />}
          {has("fields") && <TagsInput label="Fields" description={"name=text, such as to=${to}; Enter after each"} splitChars={[]} value={draft.fields} onChange={(fields) => set({ fields: fields.filter((f) => f.indexOf("=") > 0) })} />}
          {has("secret") && <PasswordInput label="Secret" description={kinds[draft.kind].secret + (notifier?.hasSecret ? "; empty: it stays" : "")} autoComplete="off" disabled={removeSecret} value={draft.secret} onChange={(e) => set({ secret: e.currentTarget.value })} />}
          {has("secret") && notifier?.hasSecret && <Checkbox mt="lg" label="Remove the secret" checked={removeSecret} onChange={(e) => setRemoveSecret(e.currentTarget.checked)} />}
          <TextInput label="Title" value={draft.title} onChange={(e) => set({ title: e.currentTarget.value })} />
          <TextInput label="Template of the subject" placeholder={"${subject}"} value={draft.subject} onChange={(e) => set({ subject: e.currentTarget.value })} />
          <TextInput label="Quiet from" description="what is not urgent waits" placeholder="22:00" value={draft.quietFrom} onChange={(e) => set({ quietFrom: e.currentTarget.value.trim() })} />
          <TextInput label="Quiet until" placeholder="06:00" value={draft.quietTo} onChange={(e) => set({ quietTo: e.currentTarget.value.trim() })} />
          <TextInput label="Time zone" placeholder="UTC" value={draft.zone} onChange={(e) => set({ zone: e.currentTarget.value.trim() })} />
          <TextInput label="Limit" description="messages in a minute; more wait" placeholder="none" value={draft.limit} onChange={(e) => set({ limit: e.currentTarget.value.replace(/\D/g, "") })} />
        </div>
        <Textarea label="Template of the text" placeholder={"${body}"} autosize minRows={2} maxRows={12} value={draft.body} onChange={(e) => set({ body: e.currentTarget.value })} />
        <Trouble error={save.error} />
        <div className="actions">
          {notifier && (
            <Button variant="default" mr="auto" onClick={() => setAsking(true)}>
              Delete
            </Button>
          )}
          <Button variant="default" onClick={() => onClose(notifier?.id ?? "")}>
            Cancel
          </Button>
          <Button type="submit" loading={save.isPending} disabled={missing}>
            {notifier ? "Save" : "Create"}
          </Button>
        </div>
      </form>
      <Ask
        opened={asking}
        onClose={() => setAsking(false)}
        title="Delete notifier"
        verb="Delete notifier"
        run={() => notifiers.deleteNotifier({ id: notifier?.id ?? "" })}
        onDone={async () => {
          await again();
          onClose("");
        }}
      >
        <b>{notifier?.id}</b> goes with its outbox. What waits there is not sent.
      </Ask>
    </section>
  );
}
