import type { RoomTab } from "../../frame/Room";

/** The rooms of what comes in. */
export function ingestTabs(inbox?: bigint): RoomTab[] {
  return [
    { name: "Messages", path: "/ingest" },
    { name: "Inbox", path: "/inbox", count: Number(inbox ?? 0n) },
  ];
}
