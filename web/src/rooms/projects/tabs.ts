import type { RoomTab } from "../../frame/Room";

/** The rooms of tenants, and of the names by which their twins are known outside. */
export const projectTabs: RoomTab[] = [
  { name: "Projects", path: "/projects" },
  { name: "Aliases", path: "/aliases" },
];
