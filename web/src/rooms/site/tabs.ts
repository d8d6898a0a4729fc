import { useQuery } from "@tanstack/react-query";

import { sites } from "../../api/client";
import type { RoomTab } from "../../frame/Room";
import type { System } from "../../gen/pollux/v1/site_pb";
import { all } from "../../model/list";
import { full } from "../../model/id";

/** The rooms of where things are and what belongs together. */
export const siteTabs: RoomTab[] = [
  { name: "Zones", path: "/site" },
  { name: "Systems", path: "/systems" },
  { name: "Relations", path: "/relations" },
];

export function useSystems() {
  return useQuery({
    queryKey: ["systems"],
    queryFn: ({ signal }) =>
      all<System>(async (pageToken) => {
        const page = await sites.listSystems({ pageSize: 500, pageToken }, { signal });
        return { items: page.systems, next: page.nextPageToken };
      }),
    refetchInterval: 10_000,
  });
}

export function systemPath(id: string): string {
  return `/systems/${full(id).split("/").map(encodeURIComponent).join("/")}`;
}
