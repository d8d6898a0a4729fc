import type { TestDriverResponse } from "../../../gen/pollux/v1/driver_pb";
import type { Place } from "../../../code/place";
import type { Run } from "./useRun";

/** What came of a run; a failed step leads to its line. */
export function Results({ run, go }: { run: Run; go: (file: string, at: Place) => void }) {
  const failed = run.results.filter((r) => r.failure).length;
  return (
    <section className="panel results" aria-label="Results">
      <h2>
        Results
        <span role="status" className={failed || run.error ? "bad" : run.results.length ? "good" : "muted"}>
          {summary(run, failed)}
        </span>
      </h2>
      <ul className="list">
        {run.results.map((r, i) => (
          <li key={i} data-failed={r.failure !== undefined || undefined}>
            <button type="button" className="plain list-item" onClick={() => go(r.file, { line: r.failure?.line || r.line })}>
              <span className={r.failure ? "bad" : "good"} aria-hidden>
                {r.failure ? "✗" : "✓"}
              </span>
              <span>
                {r.test}
                {r.mode && <span className="muted"> ({r.mode})</span>}
              </span>
              <code className="muted">
                {r.file}:{r.failure?.line || r.line}
              </code>
            </button>
            {r.failure && <Failure of={r} />}
          </li>
        ))}
      </ul>
    </section>
  );
}

function summary(run: Run, failed: number): string {
  if (run.error) return run.error;
  if (run.running) return `${run.results.length} run …`;
  if (run.took === undefined) return "not run yet";
  return `${run.results.length - failed} passed, ${failed} failed, ${(run.took / 1000).toFixed(1)} s`;
}

function Failure({ of }: { of: TestDriverResponse }) {
  const f = of.failure;
  if (!f) return null;
  return (
    <div className="failure">
      <p>
        {f.step && <code>{f.step}</code>} {f.text}
      </p>
      {(f.expected || f.got) && (
        <dl>
          <dt>expected</dt>
          <dd>
            <code>{f.expected}</code>
          </dd>
          <dt>got</dt>
          <dd>
            <code>{f.got || "nothing"}</code>
          </dd>
        </dl>
      )}
      {f.diff.length > 0 && <pre>{f.diff.join("\n")}</pre>}
      {of.trail.length > 0 && (
        <details>
          <summary>What went to and fro</summary>
          <pre>{of.trail.join("\n")}</pre>
        </details>
      )}
    </div>
  );
}
