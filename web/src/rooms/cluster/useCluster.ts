import { Code, ConnectError } from "@connectrpc/connect";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";

import { cluster } from "../../api/client";
import { assign, type Colours } from "./colours";
import { nameOf } from "./sentences";

/** Milliseconds between two looks: while slots move, and while nothing does. */
const busy = 700;
const idle = 3000;

/** The newest hand-overs that are asked for. */
const moveLimit = 1000;

/** Status, nodes, slots and hand-overs; asked for more often while slots move. */
export function useCluster() {
  const [moving, setMoving] = useState(false);
  const every = moving ? busy : idle;
  const status = useQuery({
    queryKey: ["status"],
    queryFn: ({ signal }) => cluster.getStatus({}, { signal }),
    refetchInterval: every,
  });
  const nodes = useQuery({
    queryKey: ["nodes"],
    queryFn: ({ signal }) => cluster.listNodes({}, { signal }),
    refetchInterval: every,
  });
  const slots = useQuery({
    queryKey: ["slots"],
    queryFn: ({ signal }) => cluster.listSlots({ map: true }, { signal }),
    refetchInterval: every,
    structuralSharing: false, // 32,768 numbers, of which most changed or none
  });
  const moves = useQuery({
    queryKey: ["moves"],
    queryFn: ({ signal }) => cluster.listMoves({ limit: moveLimit }, { signal }),
    refetchInterval: every,
  });
  const now = (slots.data?.moving ?? 0) > 0;
  if (now !== moving) setMoving(now);

  const list = nodes.data?.nodes ?? [];
  const colours = useColours(list.map((n) => ({ id: n.id, name: nameOf(n) })));
  return {
    status: status.data,
    nodes: list,
    slots: slots.data,
    moves: moves.data?.moves ?? [],
    colours,
    pending: nodes.isPending || status.isPending,
    error: status.error ?? nodes.error ?? slots.error ?? moves.error,
  };
}

/** Each node's colour, for as long as the room is open. */
function useColours(nodes: { id: string; name: string }[]): Colours {
  const [colours, setColours] = useState<Colours>(new Map());
  const ids = nodes.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })).map((n) => n.id);
  const next = assign(colours, ids);
  if (next !== colours) setColours(next);
  return next;
}

/** Looks again at everything that an operation changes. */
export function useLookAgain(): () => Promise<unknown> {
  const queries = useQueryClient();
  return useCallback(
    () => Promise.all(["status", "nodes", "slots", "moves", "placement"].map((key) => queries.invalidateQueries({ queryKey: [key] }))),
    [queries],
  );
}

/** The open join tokens. Only administrators may read them: the answer tells whether this key is one's. */
export function useJoinTokens() {
  const { data, error } = useQuery({
    queryKey: ["join tokens"],
    queryFn: ({ signal }) => cluster.listJoinTokens({}, { signal }),
    staleTime: 30_000,
    retry: false,
  });
  const refused = error !== null && ConnectError.from(error).code === Code.PermissionDenied;
  return { administrator: data !== undefined && !refused, tokens: data?.tokens ?? [] };
}
