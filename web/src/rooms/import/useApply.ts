import { useCallback, useRef, useState } from "react";

import { bulk } from "../../api/client";
import { infoOf } from "../../api/errors";
import { ApplyOutcome, type ApplyResult } from "../../gen/pollux/v1/bulk_pb";
import { giveAliases } from "./aliases";
import { groups, type Plan, type PlanLine } from "./plan";

/** What became, or would become, of a record. */
export interface Done {
  line: PlanLine;
  result: ApplyResult;
}

export interface Run {
  dry: boolean;
  running: boolean;
  total: number;
  done: Done[];
  /** Why it ended before its end. */
  error?: unknown;
  /** It was left by a person, or ended at the first group with something wrong. */
  stopped?: boolean;
}

/** Brings a plan to the node, group by group; a dry run commits nothing. */
export function useApply(onEnd: () => unknown) {
  const [run, setRun] = useState<Run>();
  const ended = useRef<AbortController>(undefined);
  const start = useCallback(
    async (plan: Plan, project: string, dry: boolean) => {
      ended.current?.abort();
      const own = new AbortController();
      ended.current = own;
      const state: Run = { dry, running: true, total: plan.lines.length, done: [] };
      const tell = (part: Partial<Run>) => {
        if (ended.current === own) setRun(Object.assign(state, part) && { ...state });
      };
      tell({});
      const aliases = plan.list === "alias";
      const each = plan.list !== undefined;
      try {
        const todo = groups(plan.lines);
        if (dry && !aliases) {
          const lines = todo.flat();
          const request = { project, each, groups: todo.splice(0).map((group) => ({ records: group.map((l) => l.record) })) };
          for await (const part of bulk.dryRun(request, { signal: own.signal })) {
            for (const result of part.results) {
              const line = lines[state.done.length];
              if (line) state.done.push({ line, result });
            }
            tell({ done: [...state.done] });
          }
        }
        while (todo.length > 0) {
          const group = todo.shift() ?? [];
          const request = { project, each, records: group.map((l) => l.record) };
          let results: ApplyResult[];
          try {
            results = aliases ? await giveAliases(group, project, dry, own.signal) : (await bulk.apply(request, { signal: own.signal })).results;
          } catch (error) {
            const half = group.length >> 1;
            if (half === 0 || infoOf(error)?.reason !== "too_large") throw error;
            todo.unshift(group.slice(0, half), group.slice(half)); // it is too much for one request, or for one transaction
            continue;
          }
          results.forEach((result, i) => {
            const line = group[i];
            if (line) state.done.push({ line, result });
          });
          const refused = results.some((r) => r.outcome === ApplyOutcome.REFUSED);
          tell({ done: [...state.done] });
          if (refused && !dry && !plan.list) {
            tell({ stopped: true });
            break;
          }
        }
      } catch (error) {
        if (own.signal.aborted) tell({ stopped: true });
        else tell({ error });
      }
      tell({ running: false });
      if (!dry) await onEnd();
    },
    [onEnd],
  );
  const stop = useCallback(() => ended.current?.abort(), []);
  const clear = useCallback(() => {
    ended.current?.abort();
    ended.current = undefined;
    setRun(undefined);
  }, []);
  return { run, start, stop, clear };
}
