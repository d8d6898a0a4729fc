import { ActionIcon } from "@mantine/core";
import { memo } from "react";

import { Quality, type Desired, type Property, type Twin, type TwinState } from "../../gen/pollux/v1/twin_pb";
import { useNow } from "../../live/now";
import { Flash } from "../../model/Flash";
import { QUALITY } from "../../model/StatusBadge";
import type { PropertyModel } from "../../model/thing";
import { ago, dateTime, millis, plain, show } from "../../model/value";
import { ChartIcon } from "../../shell/icons";
import { Asked } from "./Asked";
import { derivation, waitsFor } from "./facts";
import { SetValue } from "./SetValue";

interface Props {
  twin: Twin;
  state: TwinState | undefined;
  properties: PropertyModel[];
  /** The property that the chart shows. */
  drawn: string | undefined;
  onDraw: (name: string) => void;
}

/** Reported beside asked: what the device says, what somebody wants, and how far that got. */
export function Properties({ twin, state, properties, drawn, onDraw }: Props) {
  const computed = (model: PropertyModel) => {
    const reported = state?.properties[model.name];
    const good = reported?.quality === Quality.GOOD && plain(reported.value) !== undefined;
    return derivation(twin.state?.derived[model.name], twin.derived[model.name] ?? model.schema["pollux:derived"], good);
  };
  if (properties.length === 0) {
    return (
      <section className="panel" aria-label="Properties">
        <h2>Properties</h2>
        <p className="muted pad">Nothing reported yet.</p>
      </section>
    );
  }
  return (
    <section className="panel" aria-label="Properties">
      <div className="props" role="table" aria-label="Properties">
        <div className="prop prop-head" role="row">
          <h2 role="columnheader">Property</h2>
          <span role="columnheader">Reported</span>
          <span role="columnheader">Asked</span>
          <span role="columnheader">Set</span>
        </div>
        {properties.map((p) => (
          <Row
            key={p.name}
            id={twin.id}
            model={p}
            reported={state?.properties[p.name]}
            desired={state?.desired[p.name]}
            waitsFor={waitsFor(state?.desired[p.name], twin.state?.desired[p.name])}
            drawn={p.name === drawn}
            disabled={twin.stopped}
            formula={computed(p)?.formula}
            lacking={computed(p)?.why}
            onDraw={onDraw}
          />
        ))}
      </div>
    </section>
  );
}

interface RowProps {
  id: string;
  model: PropertyModel;
  reported: Property | undefined;
  desired: Desired | undefined;
  waitsFor: string;
  drawn: boolean;
  disabled: boolean;
  /** What it is computed by, and why it has no good value. */
  formula: string | undefined;
  lacking: string | undefined;
  onDraw: (name: string) => void;
}

const Row = memo(function Row({ id, model, reported, desired, waitsFor, drawn, disabled, formula, lacking, onDraw }: RowProps) {
  const at = millis(reported?.time);
  const value = plain(reported?.value);
  const drawable = model.numeric && (value === undefined || typeof value === "number" || typeof value === "boolean");
  return (
    <div className="prop" role="row" aria-label={model.name} data-drawn={drawn || undefined}>
      <div role="rowheader" className="prop-name" title={model.description}>
        {drawable ? (
          <ActionIcon
            variant={drawn ? "light" : "subtle"}
            color={drawn ? "amber" : "gray"}
            size="sm"
            aria-label={`Chart ${model.name}`}
            aria-pressed={drawn}
            onClick={() => onDraw(model.name)}
          >
            <ChartIcon size={14} />
          </ActionIcon>
        ) : (
          <span className="no-chart" />
        )}
        <span>
          {model.title}
          <code>{model.name}</code>
        </span>
      </div>
      <div role="cell" className="prop-value" data-quality={reported && QUALITY[reported.quality]}>
        <Flash text={show(value)} unit={value === undefined ? undefined : model.unit} />
        <Age at={at} quality={reported?.quality} />
        {lacking && <small className="prop-lacking">{lacking}</small>}
      </div>
      <div role="cell" className="prop-asked">
        {desired && <Asked desired={desired} waitsFor={waitsFor} />}
      </div>
      <div role="cell" className="prop-set">
        {model.writable && <SetValue id={id} model={model} reported={value} desired={desired} disabled={disabled} />}
      </div>
      {formula && (
        <code role="cell" className="prop-formula">
          = {formula}
        </code>
      )}
    </div>
  );
});

function Age({ at, quality }: { at: number | undefined; quality: Quality | undefined }) {
  const now = useNow();
  if (at === undefined) return null;
  const doubt = quality === Quality.STALE ? "stale, " : quality === Quality.BAD ? "bad, " : "";
  return (
    <small className="muted" title={dateTime(at)}>
      {doubt}
      {ago(at, now)}
    </small>
  );
}
