const places: Record<string, string> = {
  rule: "rule",
  run: "logic of route",
  judge: "logic of detector",
  verdict: "verdicts of detector",
};

/** Says where a lane of the outbox leads, by its name: a topic's id, or what it is, a slash and an id. */
export function goesTo(lane: string): string {
  const [first = "", ...rest] = lane.split("/");
  if (first === "dead" && rest.length > 1) return `dead letters of ${goesTo(rest.join("/"))}`;
  const place = places[first];
  return place && rest.length > 1 ? `${place} ${rest.join("/")}` : `topic ${lane}`;
}
