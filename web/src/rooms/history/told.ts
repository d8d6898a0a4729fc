import type { JsonObject } from "@bufbuild/protobuf";

import type { JournalEntry } from "../../gen/pollux/v1/history_pb";
import { plain, show } from "../../model/value";

/** What an entry of the journal says, in words, and of which twin and alarm it is. */
export function told(e: JournalEntry): { text: string; twin: string; alarm?: string } {
  const json = plain(e.data);
  const data: JsonObject = typeof json === "object" && json !== null && !Array.isArray(json) ? json : {};
  const words = (...names: string[]) => names.map((n) => data[n]).filter((v) => typeof v === "string" && v !== "").join(": ");
  switch (e.kind) {
    case "alarm":
      return { text: words("what", "text"), twin: words("twin"), alarm: `${e.project}/${e.name}` };
    case "command":
      return { text: words("outcome", "error"), twin: e.twin };
    case "quality":
      return { text: words("quality"), twin: e.twin };
    case "desired":
      return { text: show(data["value"]), twin: e.twin };
    default:
      return { text: show(json), twin: e.twin };
  }
}
