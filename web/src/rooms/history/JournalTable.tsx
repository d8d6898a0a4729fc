import { Table } from "@mantine/core";
import { Link } from "wouter";

import type { JournalEntry } from "../../gen/pollux/v1/history_pb";
import { twinPath } from "../../model/id";
import { millis } from "../../model/value";
import { told } from "./told";

interface Props {
  entries: readonly JournalEntry[];
  label: string;
  /** How a time, in milliseconds since the epoch, is shown. */
  time: (ms: number | undefined) => string;
}

/** Entries of the journal, a line each, in the order that they have. */
export function JournalTable({ entries, label, time }: Props) {
  return (
    <div className="scroll-x">
      <Table verticalSpacing={4} aria-label={label}>
        <Table.Tbody>
          {entries.map((e) => {
            const { text, twin, alarm } = told(e);
            return (
              <Table.Tr key={`${e.project} ${e.twin} ${e.sequence} ${e.kind} ${e.name}`}>
                <Table.Td className="nowrap">{time(millis(e.time))}</Table.Td>
                <Table.Td>{twin && <Link href={twinPath(twin)}>{twin}</Link>}</Table.Td>
                <Table.Td>
                  <span className="tag">{e.kind}</span>
                  {alarm ? <Link href={`/alarms?alarm=${encodeURIComponent(alarm)}`}>{e.name}</Link> : <b>{e.name}</b>}
                </Table.Td>
                <Table.Td>
                  <code className="journal-data">{text}</code>
                </Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </div>
  );
}
