import { memo } from "react";
import { Link } from "wouter";

import { ranked } from "../../model/rank";
import { QUALITY, StatusBadge } from "../../model/StatusBadge";
import type { Property, Twin, TwinState } from "../../gen/pollux/v1/twin_pb";
import { lastSeen, useLiveState, type LiveStates } from "../../live/store";
import { useNow } from "../../live/now";
import { Flash } from "../../model/Flash";
import { split, twinPath } from "../../model/id";
import type { Model } from "../../model/thing";
import { ago, plain, show } from "../../model/value";

interface Props {
  index: number;
  top: number;
  twin: Twin;
  model: Model | undefined;
  states: LiveStates;
  onOpen: () => void;
}

/** One twin. It listens to its own state and to nothing else. */
export const TwinRow = memo(
  function TwinRow({ index, top, twin, model, states, onOpen }: Props) {
    const state = useLiveState(states, twin.id) ?? twin.state;
    const { project, name } = split(twin.id);
    const fault = state?.status?.fault;
    return (
      <div
        className="twin-row"
        role="row"
        aria-rowindex={index + 2}
        data-index={index}
        data-faulty={fault ? true : undefined}
        style={{ transform: `translateY(${top}px)` }}
        onClick={(e) => {
          if (!(e.target as HTMLElement).closest("a") && !window.getSelection()?.toString()) onOpen();
        }}
      >
        <span role="cell" className="cell-id">
          <Link href={twinPath(twin.id)} title={twin.id}>
            {project !== "default" && <i>{project}/</i>}
            {name}
          </Link>
        </span>
        <span role="cell" className="cell-status">
          <StatusBadge status={state?.status} stopped={twin.stopped} />
        </span>
        <span role="cell" className="cell-state">
          {fault ? <em className="fault">{fault}</em> : <Values state={state} model={model} />}
        </span>
        <span role="cell" className="cell-driver">
          {twin.driver || twin.model}
        </span>
        <span role="cell" className="cell-zone">
          {twin.zone && split(twin.zone).name}
        </span>
        <span role="cell" className="cell-seen">
          <Age at={lastSeen(state, twin.state)} />
        </span>
      </div>
    );
  },
  (a, b) => a.index === b.index && a.top === b.top && a.twin === b.twin && a.model === b.model && a.states === b.states,
);

function Age({ at }: { at: number | undefined }) {
  const now = useNow();
  return at ? ago(at, now) : "–";
}

/** The values that tell most, as many as a row may hold. */
function Values({ state, model }: { state: TwinState | undefined; model: Model | undefined }) {
  if (!state) return null;
  return (
    <>
      {ranked(state.properties, model, 8).map(({ name, unit }) => {
        const property = state.properties[name] as Property;
        return (
          <span key={name} className="value" data-quality={QUALITY[property.quality]}>
            <small>{name}</small>
            <Flash text={show(plain(property.value))} unit={unit} />
          </span>
        );
      })}
    </>
  );
}
