import { fromJson, toJson, type JsonValue } from "@bufbuild/protobuf";
import { ValueSchema, type Timestamp, type Value } from "@bufbuild/protobuf/wkt";

/** A protobuf Value as plain JSON; undefined where there is none. */
export function plain(value: Value | undefined): JsonValue | undefined {
  switch (value?.kind.case) {
    case undefined:
      return undefined;
    case "nullValue":
      return null;
    case "numberValue":
    case "stringValue":
    case "boolValue":
      return value.kind.value;
    default:
      return toJson(ValueSchema, value as Value);
  }
}

/** JSON as a protobuf Value. */
export function wrap(json: JsonValue): Value {
  return fromJson(ValueSchema, json);
}

/** A value for a person to read: booleans as on and off, numbers without noise, the rest as JSON. */
export function show(json: JsonValue | undefined): string {
  if (json === undefined || json === null) return "–";
  switch (typeof json) {
    case "boolean":
      return json ? "on" : "off";
    case "number":
      return number(json);
    case "string":
      return json === "" ? "“”" : json;
    default:
      return JSON.stringify(json);
  }
}

/** At most six significant digits; whole numbers in full. */
export function number(n: number): string {
  if (Number.isInteger(n)) return String(n);
  return String(Number(n.toPrecision(6)));
}

/** A chart's number for a value, or undefined where it has none. */
export function chartable(json: JsonValue | undefined): number | undefined {
  if (typeof json === "number") return json;
  if (typeof json === "boolean") return json ? 1 : 0;
  return undefined;
}

/** Milliseconds since the epoch, or undefined. */
export function millis(time: Timestamp | undefined): number | undefined {
  return time && Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6);
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const stamp = new Intl.DateTimeFormat("en-GB", {
  year: "numeric",
  month: "short",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});

/** Time of day with milliseconds. */
export function timeOfDay(ms: number): string {
  return `${clock.format(ms)}.${String(Math.floor(ms) % 1000).padStart(3, "0")}`;
}

/** Time of day of what was today, else the date with it. */
export function moment(ms: number): string {
  return new Date(ms).toDateString() === new Date().toDateString() ? timeOfDay(ms) : dateTime(ms);
}

/** Date and time of day. */
export function dateTime(ms: number | undefined): string {
  return ms === undefined ? "–" : stamp.format(ms);
}

/** How long ago, in the largest unit that says something: 4 s, 12 min, 3 h, 5 d. */
export function ago(ms: number | undefined, now: number): string {
  if (ms === undefined) return "never";
  return now - ms < 1000 ? "now" : `${span(now - ms)} ago`;
}

/** A length of time in its largest sensible unit. */
export function span(ms: number): string {
  const s = Math.floor(ms / 1000);
  if (s < 90) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  if (s < 36 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} d`;
}

/** Bytes in binary units, three significant digits. */
export function bytes(count: bigint | number): string {
  let n = Number(count);
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 ? n : Number(n.toPrecision(3))} ${units[i]}`;
}

/** A count with thin separators. */
export function count(n: bigint | number): string {
  return n.toLocaleString("en-US").replaceAll(",", "\u202f");
}
