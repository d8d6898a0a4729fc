import { number } from "../model/value";

const width = 120;
const height = 20;
const room = 150;

/** A line as small as a word; its newest point is at the right. */
export function Spark({ points, label }: { points: number[]; label: string }) {
  const top = Math.max(1, ...points);
  const x = (i: number) => width - ((points.length - 1 - i) * width) / (room - 2);
  const path = points.map((p, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${(height - 1 - (p / top) * (height - 3)).toFixed(1)}`).join("");
  return (
    <svg className="spark" width={width} height={height} role="img" aria-label={`${label}, at most ${number(Math.round(top))}`}>
      <path d={path} fill="none" />
    </svg>
  );
}
