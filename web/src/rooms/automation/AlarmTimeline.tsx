import { Loader } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "wouter";

import { automation } from "../../api/client";
import { useWord } from "../../frame/address";
import { More } from "../../frame/More";
import { Trouble } from "../../frame/Room";
import { Try } from "../../frame/Try";
import { split } from "../../model/id";
import { dateTime, millis } from "../../model/value";
import { SpanChoice } from "./SpanChoice";
import { lanes, lasting, severities, severityWord, spanOf, type Stretch } from "./past";

const page = 500;
const short = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

export const alarmPath = (id: string) => `/alarms?alarm=${encodeURIComponent(id)}&all=yes`;

/** When each alarm was active: a lane for each, those that came last first. */
export function AlarmTimeline() {
  const [word] = useWord("span");
  const span = spanOf(word);
  const query = useInfiniteQuery({
    queryKey: ["alarm", "timeline", span.word],
    queryFn: async ({ signal, pageParam }) => {
      const end = Date.now();
      const filter = { start: { seconds: BigInt(Math.floor((end - span.ms) / 1000)), nanos: 0 } };
      return { end, ...(await automation.listAlarmSpells({ filter, pageSize: page, pageToken: pageParam }, { signal })) };
    },
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });
  const pages = query.data?.pages ?? [];
  const end = pages[0]?.end ?? 0;
  const start = end - span.ms;
  const list = lanes(
    pages.flatMap((p) => p.spells),
    start,
    end,
  );
  const since = millis(pages[0]?.since);
  return (
    <section className="panel" aria-label="Timeline">
      <h2>
        When alarms were active
        {query.isPending && <Loader size="xs" aria-label="Loading" />}
        <span className="panel-tools">
          <SpanChoice />
        </span>
      </h2>
      <Trouble error={query.error} inside />
      {query.data && list.length === 0 && (
        <div className="empty">
          <b>No alarm was active in the last {span.label}.</b>
          <span>What happens to alarms is kept in the journal, as long as the project’s settings say.</span>
          <Try lines={[{ what: "Raise one by hand", line: "pollux alarm raise leak 'water in the cellar' --severity critical" }]} />
        </div>
      )}
      {since !== undefined && since > start + 60_000 && <p className="muted pad">There were more than are read at a time: this is since {dateTime(since)}.</p>}
      {list.length > 0 && (
        <div className="scroll-x">
          <ol className="past-lanes" aria-label="Lanes">
            <li className="past-axis" aria-hidden="true">
              <span />
              <span className="past-track">
                {[0, 20, 40, 60, 80].map((at) => (
                  <i key={at} style={{ left: `${at}%` }}>
                    {(span.ms <= 86_400_000 ? hour : short).format(start + (span.ms * at) / 100)}
                  </i>
                ))}
              </span>
            </li>
            {list.map((lane) => (
              <li key={lane.alarm}>
                <Link href={alarmPath(lane.alarm)} className="clip" title={`${lane.alarm}: ${lane.text}`}>
                  {split(lane.alarm).name}
                </Link>
                <span className="past-track">
                  {lane.stretches.map((s) => (
                    <Bar key={`${s.left} ${s.spell.number}`} stretch={s} />
                  ))}
                </span>
              </li>
            ))}
          </ol>
        </div>
      )}
      <More query={query} />
      <p className="cal-legend muted">
        {severities.map((s) => (
          <span key={s} className="past-key" data-severity={s}>
            {s}
          </span>
        ))}
        <span>| acknowledged</span>
      </p>
    </section>
  );
}

function Bar({ stretch: s }: { stretch: Stretch }) {
  const raised = millis(s.spell.raiseTime) ?? 0;
  const cleared = millis(s.spell.clearTime);
  const seen = millis(s.spell.acknowledgeTime);
  const text = [
    `${severityWord(s.spell.severity)}, raised ${dateTime(raised)}`,
    s.spell.by && `by ${s.spell.by}`,
    seen !== undefined && `acknowledged after ${lasting(seen - raised)} by ${s.spell.acknowledgedBy}`,
    cleared === undefined ? "active" : `cleared after ${lasting(cleared - raised)}`,
    s.spell.text,
  ];
  const label = text.filter(Boolean).join(", ");
  return (
    <>
      <span role="img" aria-label={label} title={label} className="past-bar" data-severity={severityWord(s.spell.severity)} data-open={s.open || undefined} style={{ left: `min(${s.left}%, 100% - ${s.open ? 6 : 3}px)`, width: `${s.width}%` }} />
      {s.seen !== undefined && <i className="past-seen" style={{ left: `min(${s.seen}%, 100% - 2px)` }} />}
    </>
  );
}
