import { useQuery } from "@tanstack/react-query";

import { drivers, logics } from "../../api/client";
import type { Logic } from "../../gen/pollux/v1/logic_pb";
import { all } from "../../model/list";

/** All logics, with what they did by now. */
export function useLogics() {
  return useQuery({
    queryKey: ["logic", "all"],
    queryFn: ({ signal }) =>
      all<Logic>(async (pageToken) => {
        const page = await logics.listLogics({ pageSize: 1000, pageToken }, { signal });
        return { items: page.logics, next: page.nextPageToken };
      }),
    refetchInterval: 2000,
  });
}

/** Apart from the drivers' editor, whose answer has the tests, too. */
export const sourceKey = (name: string, version: string) => ["logic source", name, version];

/** The JavaScript of a version, where it is JavaScript. */
export function useSource(m: Logic) {
  return useQuery({
    queryKey: sourceKey(m.driver, m.version),
    queryFn: async ({ signal }) => (await drivers.getDriverSource({ name: m.driver, version: m.version }, { signal })).source,
    enabled: m.source,
    staleTime: Infinity,
    retry: false,
  });
}
