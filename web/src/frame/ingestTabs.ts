import type { RoomTab } from "./Room";

/** The rooms of what comes in. */
export function ingestTabs(inbox?: bigint): RoomTab[] {
  return [
    { name: "Messages", path: "/ingest" },
    { name: "Inbox", path: "/inbox", count: Number(inbox ?? 0n) },
    { name: "Import", path: "/import" },
    { name: "Simulator", path: "/simulations" },
  ];
}
