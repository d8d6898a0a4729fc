import { Loader, NativeSelect, Table } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "wouter";

import { automation } from "../../api/client";
import { useWord } from "../../frame/address";
import { More } from "../../frame/More";
import { Trouble } from "../../frame/Room";
import { AlarmGroup, type AlarmBar, type AlarmFigures } from "../../gen/pollux/v1/automation_pb";
import { twinPath } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { alarmPath } from "./AlarmTimeline";
import { Facts } from "./Facts";
import { SpanChoice } from "./SpanChoice";
import { durationMs, lasting, raisedIn, severities, spanOf } from "./past";

/** A filter of what was within the last so many milliseconds. */
const since = (ms: number) => ({ start: { seconds: BigInt(Math.floor((Date.now() - ms) / 1000)), nanos: 0 } });

const own = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const page = 100;

const groups = [
  { word: "alarm", group: AlarmGroup.ALARM },
  { word: "twin", group: AlarmGroup.TWIN },
  { word: "zone", group: AlarmGroup.ZONE },
  { word: "rule", group: AlarmGroup.BY },
  { word: "severity", group: AlarmGroup.SEVERITY },
] as const;

/** How often alarms came, and how long it took until somebody looked and until they were over. */
export function AlarmStatistics() {
  const [word] = useWord("span");
  const [by, setBy] = useWord("by");
  const span = spanOf(word);
  const kind = groups.find((g) => g.word === by) ?? groups[0];
  const query = useInfiniteQuery({
    queryKey: ["alarm", "statistics", span.word, kind.word],
    queryFn: ({ signal, pageParam }) =>
      automation.getAlarmStatistics(
        {
          filter: since(span.ms),
          group: kind.group,
          step: { seconds: BigInt(span.step), nanos: 0 },
          zone: own,
          pageSize: page,
          pageToken: pageParam,
        },
        { signal },
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });
  const first = query.data?.pages[0];
  const total = first?.total;
  const rows = query.data?.pages.flatMap((p) => p.groups) ?? [];
  const most = Math.max(1, ...rows.map((f) => Number(f.raised)));
  const whole = (millis(first?.since) ?? 0) <= (millis(first?.start) ?? 0) + 60_000;
  return (
    <section className="panel" aria-label="Statistics">
      <h2>
        How often, and how long
        {query.isPending && <Loader size="xs" aria-label="Loading" />}
        <span className="panel-tools">
          <NativeSelect aria-label="By" size="xs" data={groups.map((g) => ({ value: g.word, label: `by ${g.word}` }))} value={kind.word} onChange={(e) => setBy(e.currentTarget.value)} />
          <SpanChoice />
        </span>
      </h2>
      <Trouble error={query.error} inside />
      {total && (
        <>
          <div className="pad">
            <Facts
              list={[
                ["Raised", count(total.raised)],
                ["Active now", count(total.open)],
                ["Not acknowledged", count(total.unacknowledged)],
                ["Until acknowledged, mean", lasting(durationMs(total.meanAcknowledge))],
                ["Until cleared, mean", lasting(durationMs(total.meanClear))],
                ["Longest", total.longestSpell ? <Link href={alarmPath(total.longestSpell.alarm)}>{lasting(durationMs(total.longest))}</Link> : "–"],
              ]}
            />
          </div>
          {!whole && <p className="muted pad">There were more than are read at a time: this is since {dateTime(millis(first?.since))}.</p>}
          <Bars bars={first?.bars ?? []} />
          <p className="past-ends muted" aria-hidden="true">
            <span>{dateTime(millis(first?.start))}</span>
            <span>{dateTime(millis(first?.end))}</span>
          </p>
          {rows.length === 0 ? (
            <p className="muted pad">No alarm was active in the last {span.label}.</p>
          ) : (
            <div className="scroll-x">
              <Table verticalSpacing={4} aria-label={`By ${kind.word}`}>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>{kind.word[0]?.toUpperCase() + kind.word.slice(1)}</Table.Th>
                    <Table.Th>Raised</Table.Th>
                    <Table.Th>Active</Table.Th>
                    <Table.Th>Until acknowledged</Table.Th>
                    <Table.Th>Until cleared</Table.Th>
                    <Table.Th>Longest</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {rows.map((f) => (
                    <Table.Tr key={f.group}>
                      <Table.Td>
                        <Name figures={f} kind={kind.word} />
                      </Table.Td>
                      <Table.Td className="nowrap">
                        <span className="past-share" style={{ width: `${Math.max(2, (80 * Number(f.raised)) / most)}px` }} /> {count(f.raised)}
                      </Table.Td>
                      <Table.Td className={f.unacknowledged > 0n ? "bad" : undefined}>{count(f.open)}</Table.Td>
                      <Table.Td className="nowrap">{lasting(durationMs(f.meanAcknowledge))}</Table.Td>
                      <Table.Td className="nowrap">{lasting(durationMs(f.meanClear))}</Table.Td>
                      <Table.Td className="nowrap">{lasting(durationMs(f.longest))}</Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </div>
          )}
          <More query={query} />
        </>
      )}
    </section>
  );
}

function Name({ figures: f, kind }: { figures: AlarmFigures; kind: string }) {
  if (!f.group) return <span className="muted">none</span>;
  switch (kind) {
    case "alarm":
      return <Link href={alarmPath(f.group)}>{f.group}</Link>;
    case "twin":
      return <Link href={twinPath(f.group)}>{f.group}</Link>;
    case "zone":
      return <Link href={`/site?zone=${encodeURIComponent(f.group)}`}>{f.group}</Link>;
    case "rule":
      return f.group.startsWith("rule/") ? <Link href={`/rules?rule=${encodeURIComponent(f.group.slice(5))}`}>{f.group.slice(5)}</Link> : <>{f.group}</>;
    default:
      return <>{f.group}</>;
  }
}

/** What was raised by time, the gravest at the foot of each bar. */
function Bars({ bars }: { bars: AlarmBar[] }) {
  const most = Math.max(1, ...bars.map(raisedIn));
  const sum = bars.reduce((n, b) => n + raisedIn(b), 0);
  return (
    <figure className="past-chart" role="img" aria-label={`${sum} raised, at most ${most} in one of ${bars.length} bars`}>
      <span className="past-most muted">{most}</span>
      {bars.map((b) => (
        <span key={String(b.start?.seconds)} className="past-column" title={`${dateTime(millis(b.start))}: ${raisedIn(b)} raised`}>
          {severities
            .filter((s) => b.raised[s])
            .toReversed()
            .map((s) => (
              <i key={s} data-severity={s} style={{ height: `${(100 * Number(b.raised[s])) / most}%` }} />
            ))}
        </span>
      ))}
    </figure>
  );
}
