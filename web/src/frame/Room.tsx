import type { ReactNode } from "react";
import { Link, useLocation } from "wouter";

import { explain } from "../api/errors";

/** Rooms that belong together: name, address, and how much waits there. */
export interface RoomTab {
  name: string;
  path: string;
  count?: number;
}

interface Props {
  title: string;
  tabs?: RoomTab[];
  note?: ReactNode;
  /** What is wrong with the room's data. */
  error?: unknown;
  children?: ReactNode;
}

/** The head of a room: its name, the rooms beside it, and its buttons at the end. */
export function RoomHead({ title, tabs, note, error, children }: Props) {
  const [path] = useLocation();
  return (
    <>
      <header className="room-head">
        <h1>{title}</h1>
        {tabs && (
          <nav className="room-tabs" aria-label={`Rooms beside ${title}`}>
            {tabs.map((t) => (
              <Link key={t.path} href={t.path} aria-current={path === t.path || path.startsWith(`${t.path}/`) ? "page" : undefined}>
                {t.name}
                {t.count ? ` ${t.count}` : ""}
              </Link>
            ))}
          </nav>
        )}
        {note && <span className="muted">{note}</span>}
        {children && <span className="head-end head-actions">{children}</span>}
      </header>
      <Trouble error={error} />
    </>
  );
}

/** What went wrong, in the node's words; nothing where nothing did. */
export function Trouble({ error, inside }: { error: unknown; inside?: boolean }) {
  if (!error) return null;
  return (
    <p className={inside ? "trouble trouble-inside" : "trouble"} role="alert">
      {typeof error === "string" ? error : explain(error)}
    </p>
  );
}
