import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { CommandPhase, TwinStateSchema, WatchTwinsResponseSchema } from "../gen/pollux/v1/twin_pb";
import { plain, wrap } from "../model/value";
import { Ring } from "./ring";
import { LiveStates } from "./store";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

const message = (init: MessageInitShape<typeof WatchTwinsResponseSchema>) => create(WatchTwinsResponseSchema, init);
const state = (revision: bigint, power: string) =>
  create(TwinStateSchema, { revision, properties: { power: { value: wrap(power) }, name: { value: wrap("hall") } } });

test("only the twin that changed is told, once per turn", () => {
  const states = new LiveStates(100);
  const one = vi.fn();
  const other = vi.fn();
  states.subscribe("a", one);
  states.subscribe("b", other);
  states.apply(message({ id: "a", change: { case: "state", value: state(1n, "off") } }));
  for (let i = 0; i < 50; i++) {
    states.apply(
      message({ id: "a", change: { case: "delta", value: { revision: BigInt(i + 2), properties: { power: { value: wrap(`v${i}`) } } } } }),
    );
  }
  expect(one).not.toHaveBeenCalled();
  vi.advanceTimersByTime(100);
  expect(one).toHaveBeenCalledTimes(1);
  expect(other).not.toHaveBeenCalled();
  const known = states.get("a");
  expect(plain(known?.properties.power?.value)).toBe("v49");
  expect(plain(known?.properties.name?.value)).toBe("hall");
});

test("a delta of a twin whose state is not known is no state", () => {
  const states = new LiveStates();
  states.apply(message({ id: "a", change: { case: "delta", value: { revision: 5n } } }));
  expect(states.get("a")).toBeUndefined();
});

test("a change that names no version of the driver leaves it as it is", () => {
  const states = new LiveStates();
  states.apply(message({ id: "a", change: { case: "state", value: state(1n, "on") } }));
  states.apply(message({ id: "a", change: { case: "delta", value: { revision: 2n, driverVersion: "1.0.0" } } }));
  states.apply(message({ id: "a", change: { case: "delta", value: { revision: 3n } } }));
  expect(states.get("a")?.driverVersion).toBe("1.0.0");
});

test("a listed state does not overwrite a newer one", () => {
  const states = new LiveStates();
  states.apply(message({ id: "a", change: { case: "state", value: state(7n, "on") } }));
  states.seed("a", state(6n, "off"));
  expect(plain(states.get("a")?.properties.power?.value)).toBe("on");
  states.seed("a", state(8n, "off"));
  expect(plain(states.get("a")?.properties.power?.value)).toBe("off");
});

test("what the node dropped is counted", () => {
  const states = new LiveStates();
  states.apply(message({ id: "a", missed: 3n, change: { case: "state", value: state(1n, "on") } }));
  states.apply(message({ id: "b", missed: 2n, change: { case: "heartbeat", value: true } }));
  expect(states.missed).toBe(5n);
});

test("a ring keeps the newest", () => {
  const ring = new Ring<string>(3, 10);
  for (const s of ["a", "b", "c", "d"]) ring.push(s);
  vi.advanceTimersByTime(10);
  ring.push("e");
  vi.advanceTimersByTime(10);
  expect(ring.list().map((e) => [e.n, e.entry])).toEqual([
    [2, "c"],
    [3, "d"],
    [4, "e"],
  ]);
  ring.clear();
  expect(ring.list()).toEqual([]);
});

test("commands that nobody waits for get on, and the oldest that ended go", () => {
  const states = new LiveStates();
  const command = (id: string, phase: CommandPhase) => ({ id, action: "power", phase });
  const ids = () => states.get("a")?.commands.map((c) => `${c.id}:${c.phase}`);
  const { QUEUED, STARTED, ENDED } = CommandPhase;
  const change = (...commands: ReturnType<typeof command>[]) =>
    states.apply(message({ id: "a", change: { case: "delta", value: { revision: 2n, commands } } }));
  states.apply(message({ id: "a", change: { case: "state", value: { revision: 1n, commands: [command("1", QUEUED), command("2", QUEUED)] } } }));
  change(command("1", STARTED));
  expect(ids()).toEqual([`1:${STARTED}`, `2:${QUEUED}`]);
  change(command("1", ENDED), command("3", QUEUED));
  expect(ids()).toEqual([`1:${ENDED}`, `2:${QUEUED}`, `3:${QUEUED}`]);
  change(...Array.from({ length: 16 }, (_, i) => command(`e${i}`, ENDED)));
  expect(ids()).toHaveLength(18);
  expect(ids()?.slice(0, 3)).toEqual([`2:${QUEUED}`, `3:${QUEUED}`, `e0:${ENDED}`]);
  states.apply(message({ id: "a", change: { case: "delta", value: { revision: 3n } } }));
  expect(ids()).toHaveLength(18);
});
