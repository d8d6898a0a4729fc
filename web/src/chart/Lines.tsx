import "uplot/dist/uPlot.min.css";

import { useComputedColorScheme } from "@mantine/core";
import { useElementSize, useMergedRef } from "@mantine/hooks";
import { useEffect, useRef } from "react";
import uPlot from "uplot";

import { unitSymbol } from "../model/unit";
import { palettes } from "./palette";
import { ticks } from "./ticks";

/** One line: seconds since the epoch, ascending, and a value each. */
export interface LineData {
  label: string;
  unit: string;
  times: number[];
  values: (number | null)[];
  /** Drawn thin and broken: what is compared with. */
  before?: boolean;
  /** There are older values that were not read. */
  cut?: boolean;
  /** Index of its colour. */
  colour: number;
}

/** What is drawn where there is no value: nothing, the last value, or a line across. */
export type Gaps = "open" | "hold" | "across";

interface Props {
  lines: LineData[];
  from: number;
  to: number;
  gaps: Gaps;
  label: string;
  onSelect: (from: number, to: number) => void;
}

const height = 320;

/** Several lines over one time; each unit has its own scale, the first at the left, the second at the right. */
export function Lines({ lines, from, to, gaps, label, onSelect }: Props) {
  const { ref: size, width } = useElementSize<HTMLDivElement>();
  const box = useRef<HTMLDivElement>(null);
  const ref = useMergedRef(size, box);
  const scheme = useComputedColorScheme("light");
  const selected = useRef(onSelect);
  useEffect(() => {
    selected.current = onSelect;
  });
  useEffect(() => {
    const element = box.current;
    if (!element || width === 0) return;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: colour("--text-dim"),
      font: "11px 'IBM Plex Sans', sans-serif",
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1, size: 4 },
    };
    const units = [...new Set(lines.map((l) => l.unit))];
    const u = new uPlot(
      {
        width,
        height,
        legend: { show: true, live: true },
        padding: [10, 16, 0, 0],
        cursor: { drag: { x: true, y: false, setScale: false } },
        scales: { x: { time: true, range: () => [from, to] } },
        axes: [
          { ...axis, values: (_, at, _i, _space, apart) => ticks(at, apart), size: 30 },
          ...units.map((unit, i): uPlot.Axis => ({ ...axis, scale: `y${unit}`, side: i === 0 ? 3 : 1, label: unitSymbol(unit) || undefined, labelSize: unit ? 18 : 0, size: 56, show: i < 2, grid: i === 0 ? axis.grid : { show: false } })),
        ],
        series: [
          { value: (_, t) => (t ? new Date(t * 1000).toLocaleString("en-GB") : "–") },
          ...lines.map((l): uPlot.Series => {
            const paths = gaps === "hold" ? uPlot.paths.stepped?.({ align: 1 }) : undefined;
            return {
              label: l.label,
              scale: `y${l.unit}`,
              stroke: palettes[scheme][l.colour % palettes[scheme].length],
              width: l.before ? 1 : 1.6,
              dash: l.before ? [5, 4] : undefined,
              spanGaps: gaps !== "open",
              value: (_, v) => (v == null ? "–" : `${Number(v.toPrecision(6))}${l.unit ? ` ${unitSymbol(l.unit)}` : ""}`),
              points: { show: (p) => p.data[0].length < 80 },
              ...(paths && { paths }),
            };
          }),
        ],
        hooks: {
          setSelect: [
            (p) => {
              const { left, width: wide } = p.select;
              if (wide < 6) return;
              selected.current(p.posToVal(left, "x"), p.posToVal(left + wide, "x"));
              p.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            },
          ],
        },
      },
      lines.length ? uPlot.join(lines.map((l) => [l.times, l.values])) : [[]],
      element,
    );
    return () => u.destroy();
  }, [lines, from, to, gaps, width, scheme]);
  return <div ref={ref} className="lines" role="img" aria-label={label} data-points={lines.reduce((n, l) => n + l.times.length, 0)} style={{ minHeight: height }} />;
}
