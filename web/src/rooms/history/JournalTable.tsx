import { Table } from "@mantine/core";
import { Link } from "wouter";

import type { JournalEntry } from "../../gen/pollux/v1/history_pb";
import { twinPath } from "../../model/id";
import { millis, plain, show } from "../../model/value";

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
          {entries.map((e) => (
            <Table.Tr key={`${e.twin} ${e.sequence} ${e.kind} ${e.name}`}>
              <Table.Td className="nowrap">{time(millis(e.time))}</Table.Td>
              <Table.Td>{e.twin && <Link href={twinPath(e.twin)}>{e.twin}</Link>}</Table.Td>
              <Table.Td>
                <span className="tag">{e.kind}</span>
                <b>{e.name}</b>
              </Table.Td>
              <Table.Td>
                <code className="journal-data">{show(plain(e.data))}</code>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}
