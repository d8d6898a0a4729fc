import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { IngestCountSchema } from "../../gen/pollux/v1/ingest_pb";
import { rateNow, rates, sum } from "./rates";

const count = (door: string, received: number) =>
  create(IngestCountSchema, { project: "p", door, received: BigInt(received), stored: BigInt(received - 1), refused: 1n });

test("rates are differences over their time, by door and together", () => {
  const looks = [
    { time: 0, counts: [count("http", 10), count("mqtt", 100)] },
    { time: 2000, counts: [count("http", 30), count("mqtt", 100)] },
    { time: 4000, counts: [count("http", 30), count("mqtt", 104)] },
  ];
  expect(rates(looks).map((r) => r.rate)).toEqual([10, 2]);
  expect(rates(looks, "p mqtt").map((r) => r.rate)).toEqual([0, 2]);
  expect(rateNow(looks, "p http")).toBe(5);
  expect(rateNow(looks.slice(0, 1))).toBeUndefined();
});

test("a counter that went back is no negative rate", () => {
  expect(rates([{ time: 0, counts: [count("http", 9)] }, { time: 1000, counts: [count("http", 4)] }])[0]?.rate).toBe(0);
});

test("the sum keeps what was received apart from what became of it", () => {
  expect(sum([count("http", 10), count("mqtt", 5)])).toMatchObject({ received: 15n, stored: 13n, refused: 2n, inbox: 0n });
});
