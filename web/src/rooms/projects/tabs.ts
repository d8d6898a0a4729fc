import { useQuery } from "@tanstack/react-query";

import { projects } from "../../api/client";
import type { RoomTab } from "../../frame/Room";
import type { Project } from "../../gen/pollux/v1/project_pb";
import { useChanges } from "../../live/changes";
import { all } from "../../model/catalog";

/** The rooms of tenants, and of the names by which their twins are known outside. */
export const projectTabs: RoomTab[] = [
  { name: "Projects", path: "/projects" },
  { name: "Aliases", path: "/aliases" },
];

/** Every project that the caller may read. Settings come by their changes; that a project has its first record is asked for. */
export function useProjects() {
  useChanges("project");
  return useQuery({
    queryKey: ["project", "all"],
    queryFn: ({ signal }) =>
      all<Project>(async (pageToken) => {
        const page = await projects.listProjects({ pageSize: 200, pageToken }, { signal });
        return { items: page.projects, next: page.nextPageToken };
      }),
    refetchInterval: 10_000,
  });
}
