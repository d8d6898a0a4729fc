import { Button } from "@mantine/core";
import { toJsonString } from "@bufbuild/protobuf";
import { useEffect, useRef, useState } from "react";

import { twins } from "../../api/client";
import { explain } from "../../api/errors";
import { RecordTwinResponseSchema } from "../../gen/pollux/v1/twin_pb";
import { bytes, count } from "../../model/value";

/** The most that a page keeps of a recording, in characters of its file. */
const most = 64 << 20;

interface Recording {
  calls: number;
  missed: number;
  size: number;
  /** From here on nothing is missed. */
  begun: boolean;
  end?: string;
}

/** Records every call of the twin's driver while it is on, and gives it as the file that `pollux driver replay` takes. */
export function Record({ id }: { id: string }) {
  const [shown, setShown] = useState<Recording>();
  const lines = useRef<string[]>([]);
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);
  const on = shown !== undefined && shown.end === undefined;

  const begin = async () => {
    const ended = new AbortController();
    stop.current = ended;
    lines.current = [];
    const now: Recording = { calls: 0, missed: 0, size: 0, begun: false };
    setShown({ ...now });
    let why = "stopped";
    try {
      for await (const part of twins.recordTwin({ id }, { signal: ended.signal })) {
        now.begun = true;
        now.missed += Number(part.missed);
        if (part.part.case) {
          const line = toJsonString(RecordTwinResponseSchema, part);
          lines.current.push(line);
          now.size += line.length + 1;
          if (part.part.case === "call") now.calls++;
        }
        setShown({ ...now });
        if (now.size >= most) {
          why = "full";
          ended.abort();
        }
      }
    } catch (error) {
      if (!ended.signal.aborted) why = explain(error);
    }
    setShown({ ...now, end: why });
  };

  return (
    <span className="record">
      {on ? (
        <Button variant="light" color="red" onClick={() => stop.current?.abort()}>
          Stop recording
        </Button>
      ) : (
        <Button variant="default" onClick={() => void begin()}>
          Record
        </Button>
      )}
      {shown && (
        <span className="muted" role="status" aria-label="Recording">
          {count(shown.calls)} {shown.calls === 1 ? "call" : "calls"}, {bytes(shown.size)}
          {shown.missed > 0 && `, ${count(shown.missed)} missed`}
          {`, ${shown.end ?? (shown.begun ? "recording" : "beginning")}`}
        </span>
      )}
      {shown?.end && shown.size > 0 && (
        <Button variant="default" onClick={() => save(lines.current, `${id.replaceAll("/", "_")}.rec`)}>
          Download
        </Button>
      )}
    </span>
  );
}

function save(lines: string[], name: string) {
  const url = URL.createObjectURL(new Blob(lines.map((l) => `${l}\n`), { type: "application/x-ndjson" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
