import { useCallback, useRef, useState } from "react";

import { drivers } from "../../../api/client";
import { explain } from "../../../api/errors";
import type { TestDriverResponse } from "../../../gen/pollux/v1/driver_pb";
import type { Draft } from "./draft";

export interface Run {
  running: boolean;
  results: TestDriverResponse[];
  /** Why the tests could not be run at all. */
  error?: string;
  /** How long it took, in milliseconds; undefined before the first run. */
  took?: number;
}

/** Runs a draft's tests on the node, one run at a time. */
export function useRun() {
  const [run, setRun] = useState<Run>({ running: false, results: [] });
  const ended = useRef<AbortController>(undefined);
  const start = useCallback(async (draft: Draft, how: { shuffle: boolean; faults: boolean }) => {
    ended.current?.abort();
    const control = new AbortController();
    ended.current = control;
    const results: TestDriverResponse[] = [];
    setRun({ running: true, results });
    const began = performance.now();
    let error: string | undefined;
    try {
      const file = new TextEncoder().encode(draft.source);
      for await (const r of drivers.testDriver({ file, tests: draft.tests, shuffle: how.shuffle, faults: how.faults ? 1 : 0 }, { signal: control.signal })) {
        results.push(r);
        setRun({ running: true, results: [...results] });
      }
    } catch (e) {
      if (control.signal.aborted) return;
      error = explain(e);
    }
    setRun({ running: false, results: [...results], took: performance.now() - began, ...(error && { error }) });
  }, []);
  return { run, start };
}
