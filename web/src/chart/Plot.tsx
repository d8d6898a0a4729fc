import "uplot/dist/uPlot.min.css";

import { useComputedColorScheme } from "@mantine/core";
import { useElementSize, useMergedRef } from "@mantine/hooks";
import { useEffect, useRef } from "react";
import uPlot from "uplot";

import { unitSymbol } from "../model/unit";
import { ticks } from "./ticks";

export interface PlotProps {
  /** Seconds since the epoch, ascending, and a value each; null is a gap. */
  times: number[];
  values: (number | null)[];
  /** What is drawn, in seconds since the epoch. */
  from: number;
  to: number;
  unit?: string;
  /** Values hold until the next one (a state), instead of running towards it (a mean). */
  stepped: boolean;
  /** On and off instead of numbers. */
  binary: boolean;
  /** Somebody marked a range with the pointer. */
  onSelect: (from: number, to: number) => void;
  label: string;
}

const height = 190;

/** One line over time. */
export function Plot(props: PlotProps) {
  const { ref: size, width } = useElementSize<HTMLDivElement>();
  const box = useRef<HTMLDivElement>(null);
  const ref = useMergedRef(size, box);
  const scheme = useComputedColorScheme("light");
  const plot = useRef<uPlot>(undefined);
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  const wide = width > 0;
  const { stepped, binary, unit } = props;

  useEffect(() => {
    const element = box.current;
    if (!element || !wide) return;
    const p = latest.current;
    const u = new uPlot(
      options({
        box: element,
        stepped,
        binary,
        unit,
        select: (from, to) => latest.current.onSelect(from, to),
        range: () => [latest.current.from, latest.current.to],
      }),
      [p.times, p.values],
      element,
    );
    plot.current = u;
    return () => {
      u.destroy();
      plot.current = undefined;
    };
  }, [wide, scheme, stepped, binary, unit]);

  useEffect(() => {
    if (width > 0) plot.current?.setSize({ width, height });
  }, [width]);
  useEffect(() => {
    plot.current?.setData([props.times, props.values]);
  }, [props.times, props.values, props.from, props.to]);

  return <div ref={ref} className="plot" role="img" aria-label={props.label} data-points={props.times.length} style={{ height }} />;
}

interface Setup {
  box: HTMLElement;
  stepped: boolean;
  binary: boolean;
  unit?: string;
  select: (from: number, to: number) => void;
  range: () => [number, number];
}

function options({ box, stepped, binary, unit, select, range }: Setup): uPlot.Options {
  const style = getComputedStyle(box);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--text-dim"),
    font: "11px 'IBM Plex Sans', sans-serif",
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
  };
  return {
    width: box.clientWidth,
    height,
    legend: { show: false },
    padding: [10, 20, 0, 0],
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
    scales: { x: { time: true, range }, y: binary ? { range: [-0.15, 1.15] } : { range: vertical } },
    axes: [
      { ...axis, values: (_, at, _i, _space, apart) => ticks(at, apart), size: 30 },
      {
        ...axis,
        size: binary ? 38 : 56,
        ...(binary ? { splits: [0, 1], values: (_: uPlot, at: number[]) => at.map((v) => (v ? "on" : "off")) } : {}),
      },
    ],
    series: [
      {},
      {
        label: unitSymbol(unit ?? ""),
        stroke: colour("--chart"),
        width: 1.6,
        fill: colour("--chart-fill"),
        spanGaps: true,
        points: { show: (u) => (u.data[0].length < 60 ? true : false), size: 4, fill: colour("--chart") },
        paths: stepped && uPlot.paths.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      },
    ],
    hooks: {
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 6) return;
          select(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      setCursor: [tooltip(box, binary, unit)],
    },
  };
}

/** Room above and below, also for a flat line. */
function vertical(_: uPlot, min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  const pad = max > min ? (max - min) * 0.12 : Math.abs(max) * 0.1 || 1;
  return [min >= 0 ? Math.max(0, min - pad) : min - pad, max + pad];
}

const second = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function tooltip(box: HTMLElement, binary: boolean, unit?: string) {
  let tip: HTMLElement | undefined;
  return (u: uPlot) => {
    tip ??= u.over.appendChild(Object.assign(document.createElement("div"), { className: "plot-tip" }));
    const { idx, left } = u.cursor;
    const time = idx == null ? undefined : u.data[0][idx];
    const value = idx == null ? undefined : u.data[1]?.[idx];
    if (time === undefined || value == null || left === undefined || left < 0) {
      tip.hidden = true;
      return;
    }
    tip.hidden = false;
    const text = binary ? (value ? "on" : "off") : `${Number(value.toPrecision(6))}${unit ? ` ${unitSymbol(unit)}` : ""}`;
    tip.textContent = `${text}  ${second.format(time * 1000)}`;
    tip.style.transform = `translateX(${Math.min(left + 8, box.clientWidth - 190)}px)`;
  };
}
