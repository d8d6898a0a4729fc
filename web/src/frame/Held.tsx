import { Alert, Button } from "@mantine/core";
import { Fragment, useState, type ReactNode } from "react";

interface Props<T> {
  record: T;
  /** What changes with each change of the record by anybody. */
  revision: bigint;
  /** The form of a record. It calls `release` when what was typed is saved, or is not wanted any more. */
  children: (record: T, release: () => void) => ReactNode;
}

/**
 * A form of a record that others may change meanwhile. Nobody has touched it: it follows the record. Somebody has: it stays as they
 * have it, against the record that they began with, and says that there is a newer one, which comes when they ask for it.
 */
export function Held<T>({ record, revision, children }: Props<T>) {
  const [held, setHeld] = useState<{ record: T; revision: bigint }>();
  const shown = held ?? { record, revision };
  const touch = () => setHeld((before) => before ?? { record, revision });
  const release = () => setHeld(undefined);
  return (
    <>
      {shown.revision !== revision && (
        <Alert color="amber" variant="light" role="status" m="md" title="Somebody has changed this meanwhile">
          What you have typed stands below and cannot be saved over it.{" "}
          <Button variant="default" size="compact-xs" onClick={release}>
            Show what it is now
          </Button>
        </Alert>
      )}
      {/* Not while the event goes down: React would draw an input anew, without what was typed, before its own handler hears of it. */}
      <div className="held" onInput={touch} onClick={touch}>
        <Fragment key={String(shown.revision)}>{children(shown.record, release)}</Fragment>
      </div>
    </>
  );
}
