import { useCallback, useSyncExternalStore } from "react";

import { millis } from "../model/value";
import { CommandPhase, type CommandStatus, type StateDelta, type TwinState, type WatchTwinsResponse } from "../gen/pollux/v1/twin_pb";

type Listener = () => void;

/**
 * The live states of the twins that a room looks at. Each twin has its own listeners, and they are told at most once per
 * turn of `every` milliseconds: a busy twin redraws its own row, and only as often as an eye can follow.
 */
export class LiveStates {
  private readonly states = new Map<string, TwinState>();
  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly dirty = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Changes that the node dropped because this page was slow. */
  missed = 0n;

  constructor(private readonly every = 100) {}

  get(id: string): TwinState | undefined {
    return this.states.get(id);
  }

  /** Takes a state from elsewhere (a list), unless a newer one is known. */
  seed(id: string, state: TwinState | undefined) {
    const known = this.states.get(id);
    if (!state || (known && known.revision >= state.revision)) return;
    this.states.set(id, state);
    this.touch(id);
  }

  /** Applies one message of a watch. Events and logs are not kept here. */
  apply(message: WatchTwinsResponse) {
    this.missed += message.missed;
    const { id, change } = message;
    switch (change.case) {
      case "state":
        this.states.set(id, change.value);
        break;
      case "delta": {
        const known = this.states.get(id);
        if (!known) return;
        this.states.set(id, merge(known, change.value));
        break;
      }
      case "deleted":
        this.states.delete(id);
        break;
      default:
        return;
    }
    this.touch(id);
  }

  subscribe(id: string, listener: Listener): () => void {
    let set = this.listeners.get(id);
    if (!set) this.listeners.set(id, (set = new Set()));
    set.add(listener);
    return () => {
      set.delete(listener);
      if (set.size === 0 && this.listeners.get(id) === set) this.listeners.delete(id);
    };
  }

  private touch(id: string) {
    if (!this.listeners.has(id)) return;
    this.dirty.add(id);
    this.timer ??= setTimeout(() => this.flush(), this.every);
  }

  private flush() {
    this.timer = undefined;
    const ids = [...this.dirty];
    this.dirty.clear();
    for (const id of ids) for (const listener of [...(this.listeners.get(id) ?? [])]) listener();
  }
}

/** A state with what changed in it; the parts that did not change stay the same objects. */
export function merge(state: TwinState, delta: StateDelta): TwinState {
  return {
    ...state,
    properties: Object.keys(delta.properties).length ? { ...state.properties, ...delta.properties } : state.properties,
    desired: Object.keys(delta.desired).length ? { ...state.desired, ...delta.desired } : state.desired,
    status: delta.status ?? state.status,
    revision: delta.revision,
    queued: delta.queued,
    driverVersion: delta.driverVersion || state.driverVersion,
    commands: delta.commands.length ? further(state.commands, delta.commands) : state.commands,
  };
}

/** Commands that ended, and are still shown. */
const endedCommands = 16;

/** The commands with those that got on, in their order; of those that ended only the last. */
function further(commands: CommandStatus[], changed: CommandStatus[]): CommandStatus[] {
  const all = new Map(commands.map((c) => [c.id, c]));
  for (const c of changed) all.set(c.id, c);
  const list = [...all.values()];
  let spare = list.filter((c) => c.phase === CommandPhase.ENDED).length - endedCommands;
  return list.filter((c) => c.phase !== CommandPhase.ENDED || spare-- <= 0);
}

/** When the device was last heard of, in milliseconds: its status tells when that changes, its values tell it, too. */
export function lastSeen(...states: (TwinState | undefined)[]): number | undefined {
  let newest = 0;
  for (const state of states) {
    newest = Math.max(newest, millis(state?.status?.lastSeen) ?? 0);
    for (const property of Object.values(state?.properties ?? {})) newest = Math.max(newest, millis(property.time) ?? 0);
  }
  return newest || undefined;
}

/** The live state of one twin; the component is drawn again only when that twin changes. */
export function useLiveState(states: LiveStates, id: string): TwinState | undefined {
  const subscribe = useCallback((listener: Listener) => states.subscribe(id, listener), [states, id]);
  return useSyncExternalStore(subscribe, () => states.get(id));
}
