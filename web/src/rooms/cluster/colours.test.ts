import { expect, test } from "vitest";

import { assign, colourOf, grounds, palettes, type Colours, type Scheme } from "./colours";

type Triple = [number, number, number];

/** Linear RGB as it is seen without one kind of cone (Machado, Oliveira, Fernandes 2009, severity 1). */
const sights: Record<string, Triple[]> = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

/** CIE L*a*b* of a colour as somebody sees it. */
function lab(colour: string, sight: Triple[]): Triple {
  const linear = [1, 3, 5].map((i) => {
    const c = Number.parseInt(colour.slice(i, i + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as Triple;
  const [r, g, b] = sight.map((row) => Math.min(1, Math.max(0, row[0] * linear[0] + row[1] * linear[1] + row[2] * linear[2]))) as Triple;
  const f = (t: number) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  const x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
  const y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
  const z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const apart = (a: string, b: string, sight: Triple[]) => {
  const [p, q] = [lab(a, sight), lab(b, sight)];
  return Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]);
};

for (const scheme of ["light", "dark"] as Scheme[]) {
  for (const [who, sight] of Object.entries(sights)) {
    test(`${scheme}: eyes with ${who} tell any two nodes apart, and each from the ground`, () => {
      const all = [...palettes[scheme], grounds[scheme]];
      for (const [i, a] of all.entries()) {
        for (const b of all.slice(0, i)) expect(apart(a, b, sight), `${a} ${b}`).toBeGreaterThan(24);
      }
    });
  }
}

test("the measure sees what such eyes do not", () => {
  expect(apart("#e69f00", "#b8ad1c", sights["no red"] as Triple[])).toBeLessThan(5);
  expect(apart("#e69f00", "#b8ad1c", sights.all as Triple[])).toBeGreaterThan(24);
});

test("a node keeps its colour while others come and go", () => {
  const none: Colours = new Map();
  const three = assign(none, ["a", "b", "c"]);
  expect([...three.values()]).toEqual([0, 1, 2]);
  expect(assign(three, ["c", "b", "a"])).toBe(three);
  const gone = assign(three, ["a", "c"]);
  expect(gone.get("c")).toBe(2);
  const back = assign(gone, ["0", "a", "c"]);
  expect([back.get("0"), back.get("a"), back.get("c")]).toEqual([1, 0, 2]);
});

test("the ninth node has a colour, too", () => {
  const nine = assign(new Map(), [..."abcdefghi"]);
  expect(colourOf(nine, "i", "dark")).toBe(palettes.dark[0]);
  expect(colourOf(nine, "unknown", "light")).toMatch(/^#/);
});
