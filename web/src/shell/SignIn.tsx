import { Button, Code, PasswordInput, Text } from "@mantine/core";
import { useState, type FormEvent } from "react";

import { cluster } from "../api/client";
import { explain } from "../api/errors";
import { dropKey, keepKey, signedIn } from "../api/session";
import { Logo } from "./Logo";

/** Takes an API key, tries it, and keeps it for this tab. */
export function SignIn() {
  const [value, setValue] = useState("");
  const [trouble, setTrouble] = useState<string>();
  const [busy, setBusy] = useState(false);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setTrouble(undefined);
    keepKey(value.trim());
    try {
      await cluster.getStatus({});
      signedIn();
    } catch (error) {
      dropKey();
      setTrouble(explain(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <div className="signin">
      <form className="signin-card" onSubmit={(e) => void submit(e)} aria-label="Sign in">
        <Logo size={44} />
        <h1>Pollux</h1>
        <PasswordInput
          label="API key"
          placeholder="plx_…"
          autoComplete="off"
          autoFocus
          size="sm"
          value={value}
          error={trouble !== undefined}
          onChange={(e) => setValue(e.currentTarget.value)}
        />
        {trouble && (
          <p className="bad" role="alert">
            {trouble}
          </p>
        )}
        <Button type="submit" size="sm" fullWidth loading={busy} disabled={!value.trim()}>
          Sign in
        </Button>
        <Text size="xs" c="dimmed">
          The administrator’s key is in the file <Code>admin.key</Code> of the node’s data directory. The key stays in this
          tab and is forgotten when you close it. A login link, as <Code>pollux serve --demo</Code> prints it, needs no key.
        </Text>
      </form>
    </div>
  );
}
