import { Table } from "@mantine/core";

import { RunState, StepState, type Run } from "../../gen/pollux/v1/automation_pb";
import { dateTime, millis } from "../../model/value";

const words: Record<StepState, string> = {
  [StepState.UNSPECIFIED]: "",
  [StepState.WAITING]: "waits",
  [StepState.STARTED]: "started",
  [StepState.DONE]: "done",
  [StepState.FAILED]: "failed",
  [StepState.LEFT_OUT]: "left out",
  [StepState.UNKNOWN]: "unknown",
  [StepState.RETRYING]: "is tried again",
};

/** What was done, the newest first: each action with its outcome. */
export function Runs({ runs }: { runs: Run[] }) {
  if (runs.length === 0) return <p className="muted pad">It has done nothing yet.</p>;
  return (
    <div className="scroll-x">
      <Table verticalSpacing={4} aria-label="Runs">
        <Table.Tbody>
          {[...runs].sort((a, b) => Number(b.number - a.number)).map((run) => (
            <Table.Tr key={String(run.number)}>
              <Table.Td className="nowrap">{dateTime(millis(run.time))}</Table.Td>
              <Table.Td>
                {run.subject && <code>{run.subject}</code>} {run.cause}
              </Table.Td>
              <Table.Td>
                {run.steps.map((step, i) => (
                  <div key={i}>
                    {step.action}: <span className={step.state === StepState.FAILED || step.state === StepState.UNKNOWN ? "bad" : "muted"}>{words[step.state]}</span>
                    {step.tries > 1 && <span className="muted">, {step.tries} tries</span>}
                    {step.until && <span className="muted"> at {dateTime(millis(step.until))}</span>}
                    {step.repeated && <span className="muted">, perhaps twice</span>}
                    {step.error && <span className="bad"> {step.error}</span>}
                  </div>
                ))}
              </Table.Td>
              <Table.Td>{run.state === RunState.FAILED ? <span className="bad">failed</span> : run.state === RunState.OPEN ? "goes on" : "done"}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}
