import { Button, Modal, NativeSelect, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { automation } from "../../api/client";
import { Trouble } from "../../frame/Room";
import { TwinInput } from "../../frame/TwinInput";
import { AlarmSeverity } from "../../gen/pollux/v1/automation_pb";
import { full, split } from "../../model/id";

/** An alarm that somebody raises by hand. `onClose` gets its id, or nothing. */
export function RaiseAlarm({ onClose }: { onClose: (made?: string) => void }) {
  const client = useQueryClient();
  const [id, setID] = useState("");
  const [text, setText] = useState("");
  const [severity, setSeverity] = useState(AlarmSeverity.WARNING);
  const [twin, setTwin] = useState("");
  const raise = useMutation({
    mutationFn: async () => (await automation.raiseAlarm({ id: full(id.trim()), text, severity, twin })).alarm?.id,
    onSuccess: async (made) => {
      await client.invalidateQueries({ queryKey: ["alarm"] });
      onClose(made);
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    raise.mutate();
  };
  return (
    <Modal opened onClose={() => onClose()} title="Raise an alarm" closeButtonProps={{ "aria-label": "Close" }}>
      <form className="stack" aria-label="Raise an alarm" onSubmit={submit}>
        <TextInput label="Name" placeholder="leak" description="small letters, digits, - . and _; PROJECT/NAME for another project" value={id} onChange={(e) => setID(e.currentTarget.value)} data-autofocus />
        <TextInput label="Text" placeholder="water in the cellar" value={text} onChange={(e) => setText(e.currentTarget.value)} />
        <NativeSelect
          label="Severity"
          data={[AlarmSeverity.INFO, AlarmSeverity.WARNING, AlarmSeverity.ERROR, AlarmSeverity.CRITICAL].map((s) => ({ value: String(s), label: AlarmSeverity[s].toLowerCase() }))}
          value={String(severity)}
          onChange={(e) => setSeverity(Number(e.currentTarget.value) as AlarmSeverity)}
        />
        <TwinInput label="About twin" project={split(full(id.trim() || "x")).project} value={twin} onChange={setTwin} visible />
        <Trouble error={raise.error} />
        <div className="actions">
          <Button variant="default" onClick={() => onClose()}>
            Cancel
          </Button>
          <Button type="submit" loading={raise.isPending} disabled={!id.trim()}>
            Raise
          </Button>
        </div>
      </form>
    </Modal>
  );
}
