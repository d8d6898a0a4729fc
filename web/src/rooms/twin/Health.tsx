import { Alert, Button } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import type { Twin, TwinState } from "../../gen/pollux/v1/twin_pb";
import { useNow } from "../../live/now";
import { dateTime, millis, span } from "../../model/value";
import { overQuota } from "./facts";

/** What is wrong with the twin, and what somebody can do about it; nothing where all is well. */
export function Health({ twin, state }: { twin: Twin; state: TwinState | undefined }) {
  const status = state?.status;
  // That it failed once more for the same reason, the watch does not tell.
  const read = twin.state?.status;
  const over = overQuota(twin.state);
  const since = millis(status?.quarantineTime);
  return (
    <>
      {since !== undefined && <Quarantine id={twin.id} since={since} fault={status?.fault ?? ""} retry={millis(read?.retryTime)} />}
      {since === undefined && status?.fault && (
        <Alert color="red" variant="light" className="fault-alert" role="alert">
          {status.fault}
          <Again failures={read?.failures ?? 0} retry={millis(read?.retryTime)} />
        </Alert>
      )}
      {over && (
        <Alert color="yellow" variant="light" className="fault-alert">
          The driver asked for more than its quota allows; refused so far: {over}.
        </Alert>
      )}
    </>
  );
}

function Again({ failures, retry }: { failures: number; retry: number | undefined }) {
  const now = useNow();
  if (failures === 0 && retry === undefined) return null;
  return (
    <span className="muted">
      {failures > 1 && ` ${failures} failures in a row.`}
      {retry !== undefined && retry > now && ` Tried again in ${span(retry - now)}.`}
    </span>
  );
}

function Quarantine({ id, since, fault, retry }: { id: string; since: number; fault: string; retry: number | undefined }) {
  const queries = useQueryClient();
  const release = useMutation({
    mutationFn: () => twins.releaseTwins({ filter: { ids: [id] } }),
    onSettled: () => queries.invalidateQueries({ queryKey: ["twin", id] }),
  });
  return (
    <Alert color="red" variant="light" className="fault-alert" role="alert" title={`In quarantine since ${dateTime(since)}`}>
      <div className="quarantine">
        <span>
          {fault ? `${fault}. ` : ""}The driver is tried once an hour, and at once with another version or other settings.
          <Again failures={0} retry={retry} />
          {release.error && <b> {explain(release.error)}</b>}
        </span>
        <Button color="red" variant="light" loading={release.isPending} onClick={() => release.mutate()}>
          Release
        </Button>
      </div>
    </Alert>
  );
}
