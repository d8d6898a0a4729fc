import { Loader, Select, Table, TextInput } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Fragment, useState } from "react";
import { Link } from "wouter";

import { ingest } from "../../api/client";
import { More } from "../../frame/More";
import { useWord } from "../../frame/address";
import { Trouble } from "../../frame/Room";
import type { Refusal } from "../../gen/pollux/v1/ingest_pb";
import { twinPath } from "../../model/id";
import { bytes, count, dateTime, millis } from "../../model/value";
import { asText } from "../../model/wire";

const codes: Record<string, string> = {
  malformed: "It is no JSON, or not of the form.",
  too_large: "It is larger than 64 KiB.",
  too_deep: "It is nested deeper than 32.",
  wrong_type: "The model wants another type there.",
  wrong_unit: "Its unit measures something else.",
  unknown_path: "The model has no place for it.",
  time_future: "Its time is more than 10 minutes ahead.",
  time_ancient: "It is older than 30 days, and not historical.",
  foreign_project: "Its key is of another project.",
  forbidden: "Its key is for another twin.",
  unknown_twin: "There is no such twin.",
  unknown_sender: "The project refuses senders that it does not know.",
  inbox_full: "The inbox holds 10,000 senders already.",
  driver: "The twin’s driver refused it.",
  fault: "The twin’s driver crashed on it.",
  model: "The twin’s model cannot be used.",
  stopped: "The twin is stopped.",
};

/** What was refused and why, the newest first. */
export function Refusals({ project }: { project: string }) {
  const [code, setCode] = useWord("code");
  const [twin, setTwin] = useWord("twin");
  const [open, setOpen] = useState<string>();
  const query = useInfiniteQuery({
    queryKey: ["refusals", project, code, twin],
    queryFn: ({ pageParam, signal }) =>
      ingest.listRefusals({ project, code, twin: twin && !twin.includes("/") ? `${project || "default"}/${twin}` : twin, pageSize: 50, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    // Pages that somebody turned are a snapshot: the list would jump under the reader.
    refetchInterval: (q) => ((q.state.data?.pages.length ?? 0) > 1 ? false : 3000),
  });
  const all = query.data?.pages.flatMap((p) => p.refusals) ?? [];
  return (
    <section className="panel" aria-label="Refused">
      <h2>
        Refused
        <span className="panel-tools">
          <Select aria-label="Code" placeholder="Every code" clearable searchable data={Object.keys(codes)} value={code || null} onChange={(v) => setCode(v ?? "")} w={150} />
          <TextInput aria-label="Twin" placeholder="Every twin" value={twin} onChange={(e) => setTwin(e.currentTarget.value.trim())} w={150} />
        </span>
      </h2>
      <Trouble error={query.error} inside />
      {query.isPending && <Loader size="sm" m="md" aria-label="Loading" />}
      {!query.isPending && all.length === 0 && (
        <p className="muted pad">
          {code || twin ? "Nothing of that kind was refused." : "Nothing was refused. What is, stands here with its reason and the beginning of what it said."}
        </p>
      )}
      {all.length > 0 && (
        <div className="scroll-x">
          <Table verticalSpacing={4} aria-label="Refusals" className="refusals">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Time</Table.Th>
                <Table.Th>Door</Table.Th>
                <Table.Th>For</Table.Th>
                <Table.Th>Why</Table.Th>
                <Table.Th>It said</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {all.map((r) => (
                <Line key={r.id} refusal={r} open={open === r.id} onOpen={() => setOpen(open === r.id ? undefined : r.id)} />
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
      <More query={query} label="Older ones">{count(all.length)} shown; the last 10,000 of a project are kept</More>
    </section>
  );
}

function Line({ refusal: r, open, onOpen }: { refusal: Refusal; open: boolean; onOpen: () => void }) {
  const head = asText(r.payload);
  return (
    <Fragment>
      <Table.Tr data-open={open || undefined}>
        <Table.Td className="nowrap">{dateTime(millis(r.time))}</Table.Td>
        <Table.Td>{r.door}</Table.Td>
        <Table.Td>
          {r.twin ? (
            r.code === "unknown_twin" ? <code>{r.twin}</code> : <Link href={twinPath(r.twin)}>{r.twin}</Link>
          ) : (
            <code>{r.alias ? `${r.alias.network}/${r.alias.key}/${r.alias.value}` : "–"}</code>
          )}
        </Table.Td>
        <Table.Td>
          <span className="tag" title={codes[r.code]}>
            {r.code}
          </span>
          {r.reason}
        </Table.Td>
        <Table.Td>
          <button type="button" className="plain payload clip" aria-expanded={open} aria-label={`What it said: ${head.slice(0, 60)}`} onClick={onOpen}>
            <code>{head || "nothing"}</code>
          </button>
        </Table.Td>
      </Table.Tr>
      {open && (
        <Table.Tr>
          <Table.Td colSpan={5}>
            <pre className="json">{head || "nothing"}</pre>
            <p className="muted">
              {codes[r.code]} {bytes(r.size)}
              {r.size > r.payload.length && `, of which the first ${bytes(r.payload.length)} are kept`}
              {r.messageId && `; message id ${r.messageId}`}
            </p>
          </Table.Td>
        </Table.Tr>
      )}
    </Fragment>
  );
}
