import { Button } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { drivers } from "../../api/client";
import { explain } from "../../api/errors";
import type { Driver } from "../../gen/pollux/v1/driver_pb";

/** The drivers that the node carries with it. */
export function Catalog({ installed }: { installed: Driver[] }) {
  const queries = useQueryClient();
  const { data, error } = useQuery({
    queryKey: ["catalog"],
    queryFn: ({ signal }) => drivers.listCatalog({}, { signal }),
    staleTime: Infinity,
  });
  const add = useMutation({
    mutationFn: (name: string) => drivers.addFromCatalog({ name }),
    onError: (e) => notifications.show({ color: "red", message: explain(e) }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["drivers"] }),
  });
  const there = (d: Driver) => installed.some((i) => i.name === d.name && i.version === d.version);
  return (
    <section className="panel" aria-label="Catalogue">
      <h2>Catalogue</h2>
      {error && <p className="muted pad">{explain(error)}</p>}
      <ul className="list">
        {(data?.drivers ?? []).map((d) => (
          <li key={d.name} className="list-item">
            <span>
              <b>{d.title || d.name}</b>
              <code>{d.name}</code>
            </span>
            <span className="muted clip" title={d.description}>
              {d.version} {d.description}
            </span>
            {there(d) ? (
              <span className="pill">added</span>
            ) : (
              <Button
                variant="light"
                size="compact-xs"
                loading={add.isPending && add.variables === d.name}
                aria-label={`Add ${d.name}`}
                onClick={() => add.mutate(d.name)}
              >
                Add
              </Button>
            )}
          </li>
        ))}
      </ul>
      {data?.drivers.length === 0 && <p className="muted pad">This build carries none.</p>}
    </section>
  );
}
