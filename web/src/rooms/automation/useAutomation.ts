import { useQuery } from "@tanstack/react-query";

import { automation } from "../../api/client";
import type { RoomTab } from "../../frame/Room";
import type { Alarm } from "../../gen/pollux/v1/automation_pb";
import { useChanges } from "../../live/changes";
import { all } from "../../model/list";

/** The rooms of what happens by itself. */
export const automationTabs: RoomTab[] = [
  { name: "Rules", path: "/rules" },
  { name: "Schedules", path: "/schedules" },
  { name: "Alarms", path: "/alarms" },
  { name: "Analytics", path: "/analytics" },
  { name: "Notifiers", path: "/notifiers" },
];

/** Rules, each with what is committed of its state; one that stops by itself changes no record, so it is asked for again. */
export function useRules() {
  useChanges("rule");
  return useQuery({
    queryKey: ["rule", "all"],
    queryFn: ({ signal }) =>
      all(async (pageToken) => {
        const page = await automation.listRules({ pageSize: 1000, pageToken }, { signal });
        return { items: page.rules.map((rule, i) => ({ rule, state: page.states[i] })), next: page.nextPageToken };
      }),
    refetchInterval: 10_000,
  });
}

/** Schedules, each with when it is due next; that passes without a record's change, so it is asked for again. */
export function useSchedules() {
  useChanges("schedule");
  return useQuery({
    queryKey: ["schedule", "all"],
    queryFn: ({ signal }) =>
      all(async (pageToken) => {
        const page = await automation.listSchedules({ pageSize: 1000, pageToken }, { signal });
        return { items: page.schedules.map((schedule, i) => ({ schedule, next: page.next[i] })), next: page.nextPageToken };
      }),
    refetchInterval: 10_000,
  });
}

/** Alarms that need attention; with `every` also those that are shelved, suppressed, or over. Shelving ends by time. */
export function useAlarms(every: boolean) {
  useChanges("alarm");
  return useQuery({
    queryKey: ["alarm", "all", every],
    queryFn: ({ signal }) =>
      all<Alarm>(async (pageToken) => {
        const page = await automation.listAlarms({ all: every, pageSize: 1000, pageToken }, { signal });
        return { items: page.alarms, next: page.nextPageToken };
      }),
    refetchInterval: 10_000,
  });
}
