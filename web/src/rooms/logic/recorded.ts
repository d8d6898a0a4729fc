import type { JsonValue } from "@bufbuild/protobuf";

import { history, ingest, topics } from "../../api/client";
import { millis, plain, show, timeOfDay } from "../../model/value";
import { asText } from "../../model/wire";
import { payloadOf } from "./payload";

/** A message of the past that a logic can be tried on. */
export interface Recorded {
  /** What the list shows. */
  label: string;
  /** The twin that it is about, or "". */
  twin: string;
  message: JsonValue;
}

/** Where messages of the past are read. */
export type From = "topic" | "refused" | "journal";

/** How many are offered, the newest first. */
const most = 50;

/** The newest messages of a topic: a list of dead letters is one, too. */
export async function fromTopic(id: string, signal: AbortSignal): Promise<Recorded[]> {
  const { topic } = await topics.getTopic({ id }, { signal });
  const end = topic?.state?.nextOffset ?? 1n;
  const start = end > BigInt(most) ? end - BigInt(most) : 1n;
  const all: Recorded[] = [];
  for await (const part of topics.subscribe({ topic: id, start: { at: { case: "offset", value: start } }, untilEnd: true }, { signal })) {
    for (const { message: m } of part.messages) {
      if (!m) continue;
      const at = timeOfDay(millis(m.publishTime ?? m.time) ?? 0);
      all.push({ label: `${m.offset} ${at} ${asText(m.payload).slice(0, 80)}`, twin: m.key.includes("/") ? m.key : "", message: payloadOf(m.payload) });
    }
  }
  return all.reverse();
}

/** Messages that were refused. The node keeps the first 256 bytes of each, so only whole ones are offered. */
export async function fromRefusals(project: string, signal: AbortSignal): Promise<Recorded[]> {
  const { refusals } = await ingest.listRefusals({ project, pageSize: most }, { signal });
  return refusals
    .filter((r) => r.size <= r.payload.length)
    .map((r) => ({
      label: `${timeOfDay(millis(r.time) ?? 0)} ${r.code} ${asText(r.payload).slice(0, 80)}`,
      twin: r.twin.includes("/") ? r.twin : "",
      message: payloadOf(r.payload),
    }));
}

/** What twins said and the journal keeps, in the form in which a route gives it to `run`. */
export async function fromJournal(project: string, twin: string, signal: AbortSignal): Promise<Recorded[]> {
  const { entries } = await history.listJournal({ project, twin, kinds: ["event", "value"], pageSize: most }, { signal });
  return entries.map((e) => {
    const value = plain(e.data) ?? null;
    const at = millis(e.time) ?? 0;
    return {
      label: `${timeOfDay(at)} ${e.twin} ${e.name} ${show(value).slice(0, 60)}`,
      twin: e.twin,
      message: { twin: e.twin, kind: e.kind === "event" ? "event" : "property", name: e.name, value, time: new Date(at).toISOString() },
    };
  });
}
