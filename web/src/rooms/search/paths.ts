import { full, twinPath } from "../../model/id";

const roomOf: Record<string, string> = { model: "/models", topic: "/topics", system: "/systems" };

/** The console's address of what was found; none where it has no room. */
export function hitPath(kind: string, id: string): string | undefined {
  if (kind === "twin") return twinPath(id);
  if (kind === "driver") return `/drivers/${encodeURIComponent(id)}`;
  if (kind === "zone") return `/site?zone=${encodeURIComponent(id)}`;
  if (kind === "route" || kind === "notifier") return `/${kind}s?${kind}=${encodeURIComponent(full(id))}`;
  if (kind === "logic") return `/logic?logic=${encodeURIComponent(full(id))}`;
  if (kind === "detector") return `/analytics?detector=${encodeURIComponent(full(id))}`;
  if (kind === "relation") return "/relations";
  if (kind === "sink" || kind === "source" || kind === "simulation") return `/${kind}s?${kind}=${encodeURIComponent(full(id))}`;
  if (kind === "rule" || kind === "schedule" || kind === "alarm") return `/${kind}s?${kind}=${encodeURIComponent(full(id))}`;
  const room = roomOf[kind];
  return room && `${room}/${full(id).split("/").map(encodeURIComponent).join("/")}`;
}
