import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import { drivers, models as modelRecords, projects, sites } from "../api/client";
import type { Model as ModelRecord } from "../gen/pollux/v1/model_pb";
import type { Driver } from "../gen/pollux/v1/driver_pb";
import type { Project } from "../gen/pollux/v1/project_pb";
import type { Zone } from "../gen/pollux/v1/site_pb";
import type { Twin } from "../gen/pollux/v1/twin_pb";
import { splitDriver } from "./id";
import { all } from "./list";
import { parseManifest, parseModel, readModel, type Model } from "./thing";
import { group } from "./versions";

/** Every version of every driver. */
export function useDrivers() {
  return useQuery({
    queryKey: ["drivers"],
    queryFn: ({ signal }) =>
      all<Driver>(async (pageToken) => {
        const page = await drivers.listDrivers({ pageSize: 200, pageToken }, { signal });
        return { items: page.drivers, next: page.nextPageToken };
      }),
    refetchInterval: 15_000,
  });
}

export function useZones() {
  return useQuery({
    queryKey: ["zones"],
    queryFn: ({ signal }) =>
      all<Zone>(async (pageToken) => {
        const page = await sites.listZones({ pageSize: 500, pageToken }, { signal });
        return { items: page.zones, next: page.nextPageToken };
      }),
    staleTime: 30_000,
  });
}

/** Every project that the caller may read. That one has its first record is no change of a project: it is asked for. */
export function useProjects() {
  return useQuery({
    queryKey: ["project", "all"],
    queryFn: ({ signal }) =>
      all<Project>(async (pageToken) => {
        const page = await projects.listProjects({ pageSize: 200, pageToken }, { signal });
        return { items: page.projects, next: page.nextPageToken };
      }),
    staleTime: 0, // a room that is entered asks, whichever room asked just before
    refetchInterval: 10_000,
  });
}

/** The records of models, for twins without a driver; asked for again every so many milliseconds, for how many twins each has. */
export function useModelRecords(refetchInterval?: number) {
  return useQuery({
    queryKey: ["models", "all"],
    queryFn: ({ signal }) =>
      all<ModelRecord>(async (pageToken) => {
        const page = await modelRecords.listModels({ pageSize: 1000, pageToken }, { signal });
        return { items: page.models, next: page.nextPageToken };
      }),
    staleTime: 15_000,
    refetchInterval,
  });
}

/** Finds the model of a twin: its driver's, by digest, else by name and version; or the record's that it has in place of a driver. */
export type ModelOf = (twin: Pick<Twin, "driver" | "driverDigest" | "model">) => Model | undefined;

export function useModels(): ModelOf {
  const { data } = useDrivers();
  const { data: records } = useModelRecords();
  return useMemo(() => {
    const ofRecord = new Map(records?.map((m) => [m.id, parseModel(m.thingJson)]));
    const models = new Map<string, Model | undefined>();
    for (const { newest, versions } of group(data ?? [])) {
      for (const driver of versions) {
        const raw = parseManifest(driver.manifestJson)?.model;
        const model = raw && readModel(raw);
        models.set(driver.digest, model);
        models.set(`${driver.name}@${driver.version}`, model);
        if (driver === newest) models.set(`${driver.name}@`, model);
      }
    }
    return (twin) => {
      if (twin.model) return ofRecord.get(twin.model);
      const { name, version } = splitDriver(twin.driver);
      return models.get(twin.driverDigest) ?? models.get(`${name}@${version}`);
    };
  }, [data, records]);
}
