import type { ReactNode } from "react";

/** Names with their values, side by side. */
export function Facts({ list }: { list: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {list.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
