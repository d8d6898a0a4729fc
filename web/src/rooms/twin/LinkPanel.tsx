import { Link } from "wouter";

import type { Twin } from "../../gen/pollux/v1/twin_pb";
import { split } from "../../model/id";
import { bytes, count } from "../../model/value";
import { followed } from "./facts";

/** What the twin is tied to: what its connection moved since it was opened, and what its driver follows. */
export function LinkPanel({ twin }: { twin: Twin }) {
  const traffic = twin.state?.status?.traffic;
  const follows = twin.state?.subscriptions ?? [];
  if (!traffic && follows.length === 0) return null;
  const { project } = split(twin.id);
  return (
    <section className="panel" aria-label="Connection">
      <h2>Connection</h2>
      {traffic && (
        <dl className="facts pad">
          <Moved name="Received" size={traffic.receivedBytes} frames={traffic.receivedFrames} />
          <Moved name="Sent" size={traffic.sentBytes} frames={traffic.sentFrames} />
          <div>
            <dt>Reconnects</dt>
            <dd>{count(traffic.reconnects)}</dd>
          </div>
          <div>
            <dt>Errors</dt>
            <dd className={traffic.errors > 0n ? "bad" : undefined}>{count(traffic.errors)}</dd>
          </div>
          {traffic.lastError && (
            <div className="last-error">
              <dt>The last one</dt>
              <dd>{traffic.lastError}</dd>
            </div>
          )}
        </dl>
      )}
      {follows.length > 0 && (
        <ul className="follows" aria-label="Follows">
          {follows.map((s) => {
            const { name, path } = followed(s, project);
            return (
              <li key={`${s.system} ${s.twin} ${s.property}`}>
                follows <code>{s.property}</code> of {path ? <Link href={path}>{name}</Link> : name}
              </li>
            );
          })}
        </ul>
      )}
    </section>
  );
}

function Moved({ name, size, frames }: { name: string; size: bigint; frames: bigint }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {bytes(size)}
        <span className="muted">
          {" "}
          in {count(frames)} {frames === 1n ? "frame" : "frames"}
        </span>
      </dd>
    </div>
  );
}
