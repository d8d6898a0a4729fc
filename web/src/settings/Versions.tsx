import { Button } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { settings } from "../api/client";
import { explain } from "../api/errors";
import type { Settings } from "../gen/pollux/v1/settings_pb";
import { dateTime, millis } from "../model/value";
import { asked, change, type Scope } from "./scope";

/** The versions that are kept, the newest first: who made them, when, and what each changed; any can be had again. */
export function Versions({ scope, now }: { scope: Scope; now: bigint }) {
  const [open, setOpen] = useState<bigint>();
  const { data, error } = useQuery({
    queryKey: ["settings", scope.kind, scope.id, "versions", String(now)],
    queryFn: async ({ signal }) => (await settings.listSettingsVersions({ scope: asked(scope) }, { signal })).versions,
  });
  if (error) return <p className="bad">{explain(error)}</p>;
  if (!data) return null;
  if (data.length === 0) return <p className="muted">Nothing was ever set here.</p>;
  return (
    <table className="versions-of" aria-label="Versions of the settings">
      <thead>
        <tr>
          <th>Version</th>
          <th>When</th>
          <th>Who</th>
          <th aria-label="Changes" />
        </tr>
      </thead>
      <tbody>
        {data.map((v) => (
          <Version key={String(v.version)} scope={scope} v={v} now={now} open={open === v.version} onOpen={() => setOpen(open === v.version ? undefined : v.version)} />
        ))}
      </tbody>
    </table>
  );
}

function Version({ scope, v, now, open, onOpen }: { scope: Scope; v: Settings; now: bigint; open: boolean; onOpen: () => void }) {
  return (
    <>
      <tr aria-label={`Version ${v.version}`}>
        <th>
          {String(v.version)} {v.version === now && <span className="pill">holds</span>}
        </th>
        <td>{dateTime(millis(v.time))}</td>
        <td>{v.by}</td>
        <td className="version-tools">
          <Button size="compact-xs" variant="default" aria-expanded={open} onClick={onOpen}>
            What changed
          </Button>
          {v.version !== now && <Restore scope={scope} version={v.version} now={now} />}
        </td>
      </tr>
      {open && (
        <tr>
          <td colSpan={4}>
            <Changes scope={scope} to={v.version} />
          </td>
        </tr>
      )}
    </>
  );
}

function Changes({ scope, to }: { scope: Scope; to: bigint }) {
  const { data, error } = useQuery({
    queryKey: ["settings", scope.kind, scope.id, "diff", String(to)],
    queryFn: ({ signal }) => settings.diffSettings({ scope: asked(scope), to }, { signal }),
    staleTime: Infinity,
  });
  if (error) return <span className="bad">{explain(error)}</span>;
  if (!data) return null;
  if (data.changes.length === 0) return <span className="muted">Nothing differs from version {String(data.from)}.</span>;
  return (
    <ul className="changes" aria-label={`Changes from version ${data.from} to ${data.to}`}>
      {data.changes.map((c) => (
        <li key={c.name}>
          <code>{c.name}</code> {change(c)}
        </li>
      ))}
    </ul>
  );
}

function Restore({ scope, version, now }: { scope: Scope; version: bigint; now: bigint }) {
  const queries = useQueryClient();
  const { mutate, isPending } = useMutation({
    mutationFn: () => settings.setSettings({ scope: asked(scope), restore: version, version: now }),
    onSuccess: ({ settings: s }) => notifications.show({ message: `Version ${s?.version} is what version ${version} was` }),
    onError: (error) => notifications.show({ color: "red", message: explain(error) }),
    onSettled: () => Promise.all([queries.invalidateQueries({ queryKey: ["settings"] }), queries.invalidateQueries({ queryKey: ["twin"] })]),
  });
  return (
    <Button size="compact-xs" variant="default" loading={isPending} onClick={() => mutate()}>
      Restore
    </Button>
  );
}
