import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { twins } from "../../api/client";
import { keepStream } from "../../api/stream";
import type { Property, WatchTwinsResponse } from "../../gen/pollux/v1/twin_pb";
import { Ring } from "../../live/ring";
import { Samples } from "../../live/samples";
import { LiveStates } from "../../live/store";
import { chartable, millis, plain, show } from "../../model/value";

/** A line of the twin's feed: an event, or something that its driver or the node logged. */
export interface FeedLine {
  time: number;
  kind: "event" | "debug" | "info" | "warn" | "error";
  name: string;
  text: string;
}

export interface TwinWatch {
  states: LiveStates;
  samples: Samples;
  feed: Ring<FeedLine>;
  deleted: boolean;
}

/** Watches one twin: state, events and log lines, all by one stream. */
export function useTwinWatch(id: string): TwinWatch {
  const queries = useQueryClient();
  const [live] = useState(() => ({ states: new LiveStates(50), samples: new Samples(), feed: new Ring<FeedLine>(500) }));
  const [deleted, setDeleted] = useState(false);
  useEffect(() => {
    const take = (message: WatchTwinsResponse) => {
      live.states.apply(message);
      if (message.gap) live.feed.push({ time: Date.now(), kind: "warn", name: "gap", text: message.gap });
      const { change } = message;
      switch (change.case) {
        case "state":
        case "delta":
          sample(live.samples, change.value.properties);
          break;
        case "event":
          live.feed.push({
            time: millis(change.value.time) ?? Date.now(),
            kind: "event",
            name: change.value.name,
            text: change.value.data ? show(plain(change.value.data)) : "",
          });
          break;
        case "log":
          live.feed.push({
            time: millis(change.value.time) ?? Date.now(),
            kind: level(change.value.level),
            name: change.value.level,
            text: change.value.text,
          });
          break;
        case "deleted":
          setDeleted(true);
          void queries.invalidateQueries({ queryKey: ["twin", id] });
          break;
      }
    };
    return keepStream({
      name: "twin",
      idle: 25_000,
      open: (signal) => twins.watchTwins({ filter: { ids: [id] }, events: true, logs: true }, { signal }),
      message: take,
    });
  }, [id, live, queries]);
  return { ...live, deleted };
}

function sample(samples: Samples, properties: Record<string, Property>) {
  for (const [name, property] of Object.entries(properties)) {
    const value = chartable(plain(property.value));
    if (value !== undefined) samples.push(name, { time: millis(property.time) ?? Date.now(), value });
  }
}

function level(name: string): FeedLine["kind"] {
  switch (name) {
    case "debug":
    case "warn":
    case "error":
      return name;
    default:
      return "info";
  }
}
