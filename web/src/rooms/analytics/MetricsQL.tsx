import { Button, NativeSelect, SegmentedControl, Textarea, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

import { key } from "../../api/session";
import { Lines } from "../../chart/Lines";
import { useWord } from "../../frame/address";
import { Trouble } from "../../frame/Room";
import { count } from "../../model/value";
import { examples, mostLines, readAnswer } from "./metricsql";

const spans = [
  { label: "6 h", seconds: 6 * 3600 },
  { label: "24 h", seconds: 86_400 },
  { label: "7 d", seconds: 7 * 86_400 },
  { label: "30 d", seconds: 30 * 86_400 },
];

/** How many points a line has. */
const points = 300;

async function ask(project: string, query: string, seconds: number) {
  const to = Math.floor(Date.now() / 1000);
  const from = to - seconds;
  const words = new URLSearchParams({ query, start: String(from), end: String(to), step: String(Math.max(1, Math.round(seconds / points))) });
  const bearer = key();
  const answer = await fetch(`/v1/prometheus/${encodeURIComponent(project)}/api/v1/query_range?${words.toString()}`, {
    headers: bearer ? { Authorization: `Bearer ${bearer}` } : {},
    credentials: "same-origin",
  });
  return { from, to, ...readAnswer(answer.status, await answer.text()) };
}

/** Asks history by MetricsQL and draws the answer: its functions need no detector, and cost when somebody asks. */
export function MetricsQL({ of }: { of: string }) {
  const [kept, keep] = useWord("query");
  const [named, setProject] = useState<string>();
  const project = named ?? of;
  const [query, setQuery] = useState(kept || (examples[0]?.query ?? ""));
  const [span, setSpan] = useState("24 h");
  const run = useMutation({ mutationFn: () => ask(project.trim(), query.trim(), spans.find((s) => s.label === span)?.seconds ?? 86_400) });
  const got = run.data;
  return (
    <section className="panel" aria-label="MetricsQL">
      <h2>Ask history by MetricsQL</h2>
      <form
        className="stack pad"
        aria-label="MetricsQL"
        onSubmit={(e) => {
          e.preventDefault();
          keep(query.trim());
          run.mutate();
        }}
      >
        <div className="one-line">
          <NativeSelect
            aria-label="Example"
            data={[{ value: "", label: "an example …" }, ...examples.map((x) => ({ value: x.query, label: x.label }))]}
            value={examples.some((x) => x.query === query) ? query : ""}
            onChange={(e) => e.currentTarget.value && setQuery(e.currentTarget.value)}
          />
          <TextInput aria-label="Project" value={project} onChange={(e) => setProject(e.currentTarget.value)} w={120} />
          <SegmentedControl aria-label="How far back" size="xs" data={spans.map((s) => s.label)} value={span} onChange={setSpan} />
          <Button type="submit" loading={run.isPending} disabled={!query.trim() || !project.trim()}>
            Ask
          </Button>
        </div>
        <Textarea aria-label="Question" autosize minRows={2} maxRows={8} spellCheck={false} styles={{ input: { fontFamily: "var(--mantine-font-family-monospace)" } }} value={query} onChange={(e) => setQuery(e.currentTarget.value)} />
        <Trouble error={run.error instanceof Error ? run.error.message : run.error} />
      </form>
      {got && got.count === 0 && <p className="muted pad">History has nothing that fits: the property may have another name, or no samples in this time.</p>}
      {got && got.count > 0 && (
        <>
          <Lines lines={got.lines} from={got.from} to={got.to} gaps="open" label="Answer" onSelect={() => undefined} />
          <p className="cal-legend muted" role="status">
            {count(got.count)} series
            {got.count > mostLines && `, of which the first ${mostLines} are drawn`}
          </p>
        </>
      )}
    </section>
  );
}
