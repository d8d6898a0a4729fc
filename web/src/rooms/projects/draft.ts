import { create } from "@bufbuild/protobuf";
import { DurationSchema, type Duration } from "@bufbuild/protobuf/wkt";

import { ProjectQuotasSchema, ProjectSettingsSchema, RetentionRuleSchema, SampleRetentionSchema, UnknownSenders, type ProjectSettings } from "../../gen/pollux/v1/ingest_pb";

/** A rule of retention as it is written: of the journal a kind and a name, of samples a model and a property. */
export interface KeepDraft {
  of: "samples" | "journal";
  group: string;
  name: string;
  age: string;
  step: string;
  stepAge: string;
}

/** A project's settings as they are written; a span is a number with a unit, an empty field is none. */
export interface Draft {
  unknown: UnknownSenders;
  maxAge: string;
  maxHistoryAge: string;
  maxAhead: string;
  keep: KeepDraft[];
  twins: string;
  series: string;
  journal: string;
  topics: string;
}

const units: Record<string, number> = { s: 1, min: 60, m: 60, h: 3600, d: 86_400, y: 365 * 86_400 };

/** A span such as 30d, 36 h or 10min; undefined where nothing is written. What is no span is said. */
export function readSpan(text: string): Duration | undefined {
  const word = text.trim();
  if (word === "") return undefined;
  const [, digits, unit] = /^(\d+)\s*([a-z]+)$/.exec(word) ?? [];
  const of = unit && units[unit];
  if (!digits || !of) throw new Error(`“${text}” is no span: want a number and a unit, such as 10min, 36h or 30d`);
  return create(DurationSchema, { seconds: BigInt(digits) * BigInt(of) });
}

/** A span in its largest whole unit, as it can be read again. */
export function writeSpan(d: Duration | undefined): string {
  if (!d) return "";
  for (const [unit, of] of [["d", 86_400n], ["h", 3600n], ["min", 60n]] as const) if (d.seconds >= of && d.seconds % of === 0n) return `${d.seconds / of}${unit}`;
  return `${d.seconds}s`;
}

const sizes: Record<string, number> = { "": 0, KiB: 10, MiB: 20, GiB: 30 };

/** A number of something, or of bytes as 512MiB; 0 where nothing is written. */
export function readAmount(text: string, bytes: boolean): bigint {
  const [, digits, unit] = /^(\d+)\s*([KMG]iB)?$/.exec(text.trim()) ?? [];
  if (text.trim() === "") return 0n;
  if (!digits || (unit && !bytes)) throw new Error(`“${text}” is no amount: want ${bytes ? "a size such as 512MiB or 2GiB" : "a number"}`);
  return BigInt(digits) << BigInt(sizes[unit ?? ""] ?? 0);
}

/** An amount in its largest whole unit, as it can be read again. */
export function writeAmount(n: bigint, bytes: boolean): string {
  if (n === 0n) return "";
  if (bytes) for (const unit of ["GiB", "MiB", "KiB"]) if (n % (1n << BigInt(sizes[unit] ?? 0)) === 0n) return `${n >> BigInt(sizes[unit] ?? 0)}${unit}`;
  return String(n);
}

export function draftOf(s: ProjectSettings): Draft {
  return {
    unknown: s.unknownSenders || UnknownSenders.INBOX,
    maxAge: writeSpan(s.maxAge),
    maxHistoryAge: writeSpan(s.maxHistoryAge),
    maxAhead: writeSpan(s.maxAhead),
    keep: [
      ...s.journalRetention.map((r): KeepDraft => ({ of: "journal", group: r.kind, name: r.name, age: writeSpan(r.maxAge), step: "", stepAge: "" })),
      ...s.sampleRetention.map((r): KeepDraft => ({ of: "samples", group: r.model, name: r.property, age: writeSpan(r.maxAge), step: writeSpan(r.downsample), stepAge: writeSpan(r.downsampleMaxAge) })),
    ],
    twins: writeAmount(s.quotas?.twins ?? 0n, false),
    series: writeAmount(s.quotas?.series ?? 0n, false),
    journal: writeAmount(s.quotas?.journalBytes ?? 0n, true),
    topics: writeAmount(s.quotas?.topicBytes ?? 0n, true),
  };
}

/** The settings with what was written in the place of what the draft has; all else, such as rules for unknown senders, stays. */
export function settingsOf(old: ProjectSettings, d: Draft): ProjectSettings {
  const [twins, series] = [readAmount(d.twins, false), readAmount(d.series, false)];
  const [journalBytes, topicBytes] = [readAmount(d.journal, true), readAmount(d.topics, true)];
  return create(ProjectSettingsSchema, {
    ...old,
    unknownSenders: d.unknown,
    maxAge: readSpan(d.maxAge),
    maxHistoryAge: readSpan(d.maxHistoryAge),
    maxAhead: readSpan(d.maxAhead),
    journalRetention: d.keep.filter((k) => k.of === "journal").map((k) => create(RetentionRuleSchema, { kind: k.group.trim(), name: k.name.trim(), maxAge: readSpan(k.age) })),
    sampleRetention: d.keep
      .filter((k) => k.of === "samples")
      .map((k) => create(SampleRetentionSchema, { model: k.group.trim(), property: k.name.trim(), maxAge: readSpan(k.age), downsample: readSpan(k.step), downsampleMaxAge: readSpan(k.stepAge) })),
    quotas: twins || series || journalBytes || topicBytes ? create(ProjectQuotasSchema, { twins, series, journalBytes, topicBytes }) : undefined,
  });
}
