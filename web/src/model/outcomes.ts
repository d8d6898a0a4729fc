import { Outcome } from "../gen/pollux/v1/twin_pb";

/** What became of a command, in a word. */
export const outcomes: Record<Outcome, string> = {
  [Outcome.UNSPECIFIED]: "answered",
  [Outcome.DONE]: "done",
  [Outcome.REJECTED]: "rejected",
  [Outcome.TIMED_OUT]: "timed out",
  [Outcome.UNKNOWN]: "unknown",
  [Outcome.QUEUED]: "queued",
};
