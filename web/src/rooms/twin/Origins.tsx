import { Button, Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { settings } from "../../api/client";
import { explain } from "../../api/errors";
import type { SettingValue } from "../../gen/pollux/v1/settings_pb";
import type { Twin } from "../../gen/pollux/v1/twin_pb";
import { plain, show } from "../../model/value";
import type { Schema } from "../../schema/types";
import { asked, scopeOf, scopesOf, type Scope } from "../../settings/scope";
import { ScopeSettings } from "../../settings/ScopeSettings";

/** All settings that a twin has. */
export function useSettings(twin: Twin) {
  return useQuery({
    queryKey: ["settings", "twin", twin.id, "values", String(twin.revision)],
    queryFn: async ({ signal }) => (await settings.getSettings({ scope: asked({ kind: "twin", id: twin.id }) }, { signal })).values,
    refetchInterval: 15_000,
  });
}

const text = ({ kind, id }: Scope) => `${kind} ${id}`;

/** What the twin has of whom, and what each of them sets: versions, and a form for those that are not the twin itself. */
export function Origins({ twin, schema }: { twin: Twin; schema?: Schema }) {
  const { data, error } = useSettings(twin);
  const scopes = scopesOf(twin, data ?? []);
  const [chosen, setChosen] = useState(text(scopes[0] as Scope));
  const scope = scopes.find((s) => text(s) === chosen) ?? (scopes[0] as Scope);
  return (
    <section className="panel origins-panel" aria-label="Where settings come from">
      <h2>Where settings come from</h2>
      <div className="pad">
        {error && <p className="bad">{explain(error)}</p>}
        {data && <Values values={data} onOpen={(s) => setChosen(text(s))} />}
      </div>
      <h2>
        Versions
        <span className="panel-tools">
          <Select aria-label="Settings of" size="xs" w={260} data={scopes.map(text)} value={text(scope)} onChange={(v) => v && setChosen(v)} allowDeselect={false} />
        </span>
      </h2>
      {/* Of what a zone or a system sets, the schema of one driver knows but a part. */}
      <ScopeSettings key={text(scope)} scope={scope} schema={scope.kind === "driver" ? schema : undefined} />
    </section>
  );
}

function Values({ values, onOpen }: { values: SettingValue[]; onOpen: (scope: Scope) => void }) {
  if (values.length === 0) return <p className="muted">It has no settings.</p>;
  return (
    <table className="origins" aria-label="Settings and their origin">
      <tbody>
        {values.map((v) => (
          <tr key={v.name} aria-label={v.name}>
            <th scope="row" title={v.title}>
              <code>{v.name}</code>
            </th>
            <td>{show(plain(v.value))}</td>
            <td>
              <Source source={v.source} onOpen={onOpen} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Source({ source, onOpen }: { source: string; onOpen: (scope: Scope) => void }) {
  const scope = scopeOf(source);
  if (!scope) return <span className="muted">{source}</span>;
  return (
    <Button size="compact-xs" variant="subtle" onClick={() => onOpen(scope)}>
      {source}
    </Button>
  );
}
