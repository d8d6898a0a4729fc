import { create } from "@bufbuild/protobuf";
import { useCallback, useMemo } from "react";
import { useSearchParams } from "wouter";

import { Connection, TwinFilterSchema, type TwinFilter } from "../../gen/pollux/v1/twin_pb";
import { labelsOf } from "../../model/labels";

export type Status = "all" | "connected" | "disconnected" | "connecting" | "stopped" | "faulty";

/** What the table is narrowed to. It lives in the address, so that a view can be kept and shared. */
export interface Filter {
  text: string;
  driver: string;
  /** Id of a model, of twins without a driver. */
  model: string;
  zone: string;
  /** `key=value` each. */
  labels: string[];
  status: Status;
}

const connections: Partial<Record<Status, Connection>> = {
  connected: Connection.CONNECTED,
  disconnected: Connection.DISCONNECTED,
  connecting: Connection.CONNECTING,
  stopped: Connection.STOPPED,
};

export function useFilter(): [Filter, (change: Partial<Filter>) => void] {
  const [params, setParams] = useSearchParams();
  const filter = useMemo(() => read(params), [params]);
  const change = useCallback(
    (part: Partial<Filter>) => setParams((before) => write({ ...read(before), ...part }), { replace: true }),
    [setParams],
  );
  return [filter, change];
}

export function read(params: URLSearchParams): Filter {
  return {
    text: params.get("text") ?? "",
    driver: params.get("driver") ?? "",
    model: params.get("model") ?? "",
    zone: params.get("zone") ?? "",
    labels: params.getAll("label"),
    status: (params.get("status") as Status | null) ?? "all",
  };
}

export function write(filter: Filter): URLSearchParams {
  const params = new URLSearchParams();
  if (filter.text) params.set("text", filter.text);
  if (filter.driver) params.set("driver", filter.driver);
  if (filter.model) params.set("model", filter.model);
  if (filter.zone) params.set("zone", filter.zone);
  for (const label of filter.labels) params.append("label", label);
  if (filter.status !== "all") params.set("status", filter.status);
  return params;
}

export function isEmpty(filter: Filter): boolean {
  return write(filter).size === 0;
}

/** The filter as the API wants it. */
export function message(filter: Filter): TwinFilter {
  return create(TwinFilterSchema, {
    text: filter.text,
    driver: filter.driver,
    model: filter.model,
    zone: filter.zone,
    labels: labelsOf(filter.labels.filter((l) => l.indexOf("=") > 0)),
    connection: connections[filter.status] ?? Connection.UNSPECIFIED,
    faulty: filter.status === "faulty",
  });
}
