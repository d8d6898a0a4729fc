import type { LineData } from "../../chart/Lines";

/** Questions to begin with: each shows one of MetricsQL's own functions. `[w]` stands for the window. */
export const examples = [
  { label: "How far from its mean, in deviations", query: 'zscore_over_time(pollux_property{property="temperature"}[1h])' },
  { label: "Outliers by quartiles", query: 'outlier_iqr_over_time(pollux_property{property="temperature"}[1d])' },
  { label: "Scatter, robust", query: 'mad_over_time(pollux_property{property="temperature"}[6h])' },
  { label: "In an hour, if it goes on like this", query: 'predict_linear(pollux_property{property="temperature"}[6h], 3600)' },
  { label: "How often it changed", query: 'changes(pollux_property{property="power"}[1d])' },
  { label: "The five highest", query: 'topk_avg(5, pollux_property{property="temperature"})' },
];

/** How many lines are drawn; a question can have thousands. */
export const mostLines = 16;

/** The Prometheus API's answer, as far as it is drawn. */
interface Answer {
  status?: string;
  error?: string;
  data?: { resultType?: string; result?: { metric?: Record<string, string>; values?: [number, string][] }[] };
}

/** What a series is called: its twin and property, or else all of its labels. */
export function named(metric: Record<string, string>): string {
  const { __name__: name, project, twin, property, ...rest } = metric;
  const main = [twin, property].filter(Boolean).join(" ");
  const other = Object.entries(rest)
    .map(([k, v]) => `${k}=${v}`)
    .join(" ");
  return [main, other].filter(Boolean).join(" ") || name || project || "all";
}

/** Reads an answer: its lines, and how many there were. Throws what the node says is wrong. */
export function readAnswer(status: number, text: string): { lines: LineData[]; count: number } {
  let answer: Answer;
  try {
    answer = JSON.parse(text) as Answer;
  } catch {
    throw new Error(text.trim() || `the node answered ${status}`);
  }
  if (answer.status !== "success") throw new Error(answer.error ?? `the node answered ${status}`);
  const result = answer.data?.result ?? [];
  const lines = result.slice(0, mostLines).map((r, i) => ({
    label: named(r.metric ?? {}),
    unit: "",
    colour: i,
    times: (r.values ?? []).map(([t]) => t),
    values: (r.values ?? []).map(([, v]) => (Number.isFinite(Number(v)) ? Number(v) : null)),
  }));
  return { lines, count: result.length };
}
