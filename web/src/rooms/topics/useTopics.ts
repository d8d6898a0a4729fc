import { useQuery } from "@tanstack/react-query";

import { topics } from "../../api/client";
import type { RoomTab } from "../../frame/Room";
import type { Topic } from "../../gen/pollux/v1/topic_pb";
import { all } from "../../model/list";
import { full } from "../../model/id";

/** Names that end so are the dead letters of the topic before. */
export const deadEnd = ".dead";

/** The rooms of where things go. */
export const topicTabs: RoomTab[] = [
  { name: "Topics", path: "/topics" },
  { name: "Routes", path: "/routes" },
  { name: "Sinks", path: "/sinks" },
  { name: "Sources", path: "/sources" },
];

/** The records of all topics, dead letters among them. */
export function useTopics() {
  return useQuery({
    queryKey: ["topics"],
    queryFn: ({ signal }) =>
      all<Topic>(async (pageToken) => {
        const page = await topics.listTopics({ pageSize: 1000, pageToken }, { signal });
        return { items: page.topics, next: page.nextPageToken };
      }),
    refetchInterval: 3000,
  });
}

/** What a topic holds now; its owner is asked. */
export function useTopicState(id: string, enabled = true, every = 2000) {
  return useQuery({
    queryKey: ["topic", id],
    queryFn: async ({ signal }) => (await topics.getTopic({ id }, { signal })).topic,
    refetchInterval: every,
    enabled,
  });
}

export function topicPath(id: string): string {
  return `/topics/${full(id).split("/").map(encodeURIComponent).join("/")}`;
}
