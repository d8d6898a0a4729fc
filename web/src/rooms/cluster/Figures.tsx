import type { GetStatusResponse } from "../../gen/pollux/v1/cluster_pb";
import { useNow } from "../../live/now";
import { count, millis, span } from "../../model/value";

export function Figures({ status }: { status: GetStatusResponse }) {
  const now = useNow();
  const started = millis(status.startTime);
  return (
    <section className="figures" aria-label="Figures">
      <Figure name="Twins" value={count(status.twins)} note={`${count(status.activeTwins)} active, ${count(status.connectedTwins)} connected`} />
      <Figure
        name="Faults"
        value={count(status.faultyTwins)}
        note={status.faultyTwins === 0n ? "no twin has one" : "twins with a fault"}
        tone={status.faultyTwins > 0n ? "bad" : undefined}
      />
      <Figure
        name="Nodes alive"
        value={`${status.nodesAlive} of ${status.nodes}`}
        note={`${status.votersAlive} of ${status.voters} voters, ${status.quorum} must answer`}
        tone={status.nodesAlive < status.nodes ? "warn" : undefined}
      />
      <Figure
        name="Leader"
        value={status.leaderName || status.leader || "none"}
        note={`revision ${count(status.revision)}`}
        tone={status.leader ? undefined : "bad"}
      />
      <Figure
        name="History"
        value={status.historyLag === 0n ? "up to date" : `${count(status.historyLag)} waiting`}
        note={`checkpoint every ${every(status.checkpointIntervalMs)}`}
      />
      <Figure name="Version" value={status.version || "–"} note={started ? `up ${span(now - started)}` : ""} />
    </section>
  );
}

/** What was turned away or dropped since the start, by reason. */
export function Refused({ counts }: { counts: Record<string, bigint> }) {
  const refused = Object.entries(counts)
    .filter(([, n]) => n > 0n)
    .sort(([a], [b]) => a.localeCompare(b));
  return (
    <section className="panel" aria-label="Refused and dropped">
      <h2>Refused and dropped</h2>
      {refused.length === 0 && <p className="muted pad">Nothing since the start.</p>}
      <dl className="refused">
        {refused.map(([reason, n]) => (
          <div key={reason}>
            <dt>{reason}</dt>
            <dd>{count(n)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function every(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${Number((ms / 1000).toFixed(1))} s`;
}

function Figure({ name, value, note, tone }: { name: string; value: string; note: string; tone?: "bad" | "warn" }) {
  return (
    <div className="figure" data-tone={tone}>
      <span>{name}</span>
      <b>{value}</b>
      <small>{note}</small>
    </div>
  );
}
