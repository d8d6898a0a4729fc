import { Button, SegmentedControl, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";

import { twins } from "../../api/client";
import type { Link } from "../../api/link";
import { keepStream } from "../../api/stream";
import { TraceTwinResponse_Direction as Direction } from "../../gen/pollux/v1/twin_pb";
import { Ring, useRing } from "../../live/ring";
import { count, millis, timeOfDay } from "../../model/value";
import { asHex, asText, dump } from "../../model/wire";
import { PauseIcon, PlayIcon, SearchIcon, TrashIcon } from "../../shell/icons";
import { Record } from "./Record";

/** A piece of what the twin's transport sent or received. */
interface Frame {
  time: number;
  direction: "sent" | "received" | "note";
  topic: string;
  data: Uint8Array;
  text: string;
  missed: number;
}

type Form = "text" | "hex" | "both";
type Entry = { n: number; entry: Frame };

const kept = 5000;
const rowHeight = 24;

/** Every byte sent and received while this tab is open. The node masks secrets before they come here. */
export function Wire({ id }: { id: string }) {
  const [ring] = useState(() => new Ring<Frame>(kept));
  const link = useTrace(id, ring);
  const live = useRing(ring);
  const [frozen, setFrozen] = useState<readonly Entry[]>();
  const [form, setForm] = useState<Form>("both");
  const [find, setFind] = useState("");
  const [picked, setPicked] = useState<Entry>();
  const all = frozen ?? live;
  const shown = useMemo(() => {
    const wanted = find.toLowerCase();
    if (!wanted) return all;
    return all.filter(({ entry: f }) => f.text.toLowerCase().includes(wanted) || f.topic.includes(wanted) || asHex(f.data).includes(wanted));
  }, [all, find]);
  const late = frozen ? (live.at(-1)?.n ?? 0) - (frozen.at(-1)?.n ?? 0) : 0;

  return (
    <section className="panel wire" aria-label="Wire">
      <div className="wire-tools">
        <Button
          variant="default"
          leftSection={frozen ? <PlayIcon size={14} /> : <PauseIcon size={14} />}
          aria-pressed={frozen !== undefined}
          onClick={() => setFrozen(frozen ? undefined : live)}
        >
          {frozen ? "Resume" : "Pause"}
        </Button>
        <Button
          variant="default"
          leftSection={<TrashIcon size={14} />}
          onClick={() => {
            ring.clear();
            if (frozen) setFrozen([]);
            setPicked(undefined);
          }}
        >
          Clear
        </Button>
        <SegmentedControl
          aria-label="Show bytes as"
          data={[
            { value: "text", label: "Text" },
            { value: "hex", label: "Hex" },
            { value: "both", label: "Both" },
          ]}
          value={form}
          onChange={(v) => setForm(v as Form)}
        />
        <TextInput
          aria-label="Find in the trace"
          placeholder="Find text or hex"
          leftSection={<SearchIcon size={14} />}
          value={find}
          onChange={(e) => setFind(e.currentTarget.value)}
        />
        <Record id={id} />
        <span className="muted" role="status">
          {state(link, frozen !== undefined, late)}
        </span>
        <span className="muted wire-count">{count(shown.length)} frames</span>
      </div>
      <Frames frames={shown} form={form} picked={picked} onPick={setPicked} follow={!frozen} />
      {picked && (
        <div className="wire-detail">
          <pre aria-label="Bytes">{dump(picked.entry.data) || "no bytes"}</pre>
          <Button variant="subtle" color="gray" size="compact-xs" onClick={() => setPicked(undefined)}>
            Close
          </Button>
        </div>
      )}
    </section>
  );
}

function state(link: Link, paused: boolean, late: number): string {
  if (link.state === "failed") return link.error ?? "refused";
  if (paused) return late > 0 ? `paused, ${count(late)} more` : "paused";
  return link.state === "offline" ? "reconnecting" : "listening";
}

function useTrace(id: string, ring: Ring<Frame>): Link {
  const [link, setLink] = useState<Link>({ state: "connecting" });
  useEffect(
    () =>
      keepStream({
        name: "trace",
        quiet: true,
        open: (signal) => twins.traceTwin({ id }, { signal }),
        state: setLink,
        message: (m) =>
          ring.push({
            time: millis(m.time) ?? Date.now(),
            direction: m.direction === Direction.SENT ? "sent" : m.direction === Direction.RECEIVED ? "received" : "note",
            topic: m.topic,
            data: m.data,
            text: asText(m.data),
            missed: Number(m.missed),
          }),
      }),
    [id, ring],
  );
  return link;
}

interface FramesProps {
  frames: readonly Entry[];
  form: Form;
  picked: Entry | undefined;
  onPick: (entry: Entry | undefined) => void;
  follow: boolean;
}

function Frames({ frames, form, picked, onPick, follow }: FramesProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualizer is read here and nowhere memoised
  const rows = useVirtualizer({
    count: frames.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    overscan: 20,
  });
  const newest = frames.at(-1)?.n;
  useEffect(() => {
    const box = scroller.current;
    if (box && follow && atEnd.current) box.scrollTop = box.scrollHeight;
  }, [newest, follow]);

  return (
    <div
      className="frames"
      role="log"
      aria-label="Frames"
      tabIndex={0}
      ref={scroller}
      onScroll={(e) => {
        const box = e.currentTarget;
        atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < rowHeight * 2;
      }}
    >
      {frames.length === 0 && <p className="muted pad">Nothing has passed since you opened this tab.</p>}
      <div style={{ height: rows.getTotalSize(), position: "relative" }}>
        {rows.getVirtualItems().map((item) => {
          const frame = frames[item.index];
          if (!frame) return null;
          return (
            <FrameRow
              key={frame.n}
              frame={frame.entry}
              before={frames[item.index - 1]?.entry.time}
              form={form}
              top={item.start}
              picked={picked?.n === frame.n}
              onPick={() => onPick(picked?.n === frame.n ? undefined : frame)}
            />
          );
        })}
      </div>
    </div>
  );
}

const arrows = { sent: "→", received: "←", note: "·" };

function FrameRow(p: { frame: Frame; before?: number; form: Form; top: number; picked: boolean; onPick: () => void }) {
  const { frame, form } = p;
  const gap = p.before === undefined ? undefined : frame.time - p.before;
  return (
    <button
      type="button"
      className="frame"
      data-direction={frame.direction}
      data-form={form}
      data-picked={p.picked || undefined}
      style={{ transform: `translateY(${p.top}px)` }}
      onClick={p.onPick}
    >
      <time>{timeOfDay(frame.time)}</time>
      <span className="frame-gap">{gap === undefined || gap < 0 ? "" : gap < 10_000 ? `+${gap}` : `+${Math.round(gap / 1000)}s`}</span>
      <span className="frame-arrow" title={frame.direction}>
        {arrows[frame.direction]}
      </span>
      {frame.missed > 0 && <em>{frame.missed} missed</em>}
      {frame.topic && <span className="frame-topic">{frame.topic}</span>}
      {(form !== "hex" || frame.direction === "note") && <span className="frame-text">{frame.text}</span>}
      {form !== "text" && frame.direction !== "note" && <span className="frame-hex">{asHex(frame.data, 64)}</span>}
    </button>
  );
}
