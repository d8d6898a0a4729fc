import type { GetStatusResponse } from "../../gen/pollux/v1/cluster_pb";
import { count } from "../../model/value";

/** Something that somebody should look at, and where. */
export interface Need {
  text: string;
  path: string;
  grave: boolean;
}

type Status = Pick<
  GetStatusResponse,
  "faultyTwins" | "quarantinedTwins" | "nodes" | "nodesAlive" | "silent" | "unmetSelectors" | "quotaWarnings" | "diskWarnings" | "outboxHeld" | "voters" | "votersAlive" | "quorum"
>;

const are = (n: bigint | number, one: string, many: string) => `${count(n)} ${Number(n) === 1 ? one : many}`;

/** What of the cluster's figures needs attention, the graver first. Alarms speak for themselves and are not among it. */
export function needs(status: Status, inboxEntries: bigint | number): Need[] {
  const list: Need[] = [];
  const say = (when: boolean, grave: boolean, path: string, text: () => string) => {
    if (when) list.push({ text: text(), path, grave });
  };
  say(status.nodesAlive < status.nodes, true, "/cluster", () => `${are(status.nodes - status.nodesAlive, "node does", "nodes do")} not answer`);
  say(status.votersAlive < status.quorum, true, "/cluster", () => `${status.votersAlive} of ${status.voters} voters answer, ${status.quorum} are needed: nothing can be committed`);
  say(status.quarantinedTwins > 0n, true, "/drivers", () => are(status.quarantinedTwins, "twin is kept apart: its driver went on failing", "twins are kept apart: their drivers went on failing"));
  say(status.faultyTwins > 0n, true, "/twins?status=faulty", () => are(status.faultyTwins, "twin has a fault", "twins have a fault"));
  for (const [selector, n] of Object.entries(status.unmetSelectors)) {
    say(true, true, "/cluster", () => `${are(n, "twin has", "twins have")} no node to live on: none satisfies ${selector}`);
  }
  for (const text of status.diskWarnings) say(true, true, "/cluster", () => text);
  for (const text of status.quotaWarnings) say(true, false, "/retention", () => text);
  say(status.outboxHeld.length > 0, false, "/notifiers", () => are(status.outboxHeld.length, "destination does not take what twins have said", "destinations do not take what twins have said"));
  say(status.silent.length > 0, false, "/cluster", () => `no figures from ${status.silent.join(", ")}`);
  say(Number(inboxEntries) > 0, false, "/inbox", () => are(inboxEntries, "sender that nobody knows waits in the inbox", "senders that nobody knows wait in the inbox"));
  return list.sort((a, b) => Number(b.grave) - Number(a.grave));
}
