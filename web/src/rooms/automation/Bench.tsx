import { Button, Select, Table, TextInput } from "@mantine/core";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { automation } from "../../api/client";
import { explain } from "../../api/errors";
import { Trouble } from "../../frame/Room";
import { TwinInput } from "../../frame/TwinInput";
import type { Rule } from "../../gen/pollux/v1/automation_pb";
import { full } from "../../model/id";
import { count, dateTime, millis } from "../../model/value";
import { Facts } from "./Facts";

function seen(values: Record<string, string>): string {
  return Object.entries(values)
    .sort()
    .map(([k, v]) => `${k} = ${v}`)
    .join(", ");
}

/** What a rule would say of a twin, with its own values or with others. Nothing is done. */
export function TestBench({ rule }: { rule: Rule }) {
  const on = rule.when[0]?.on;
  const [twin, setTwin] = useState(on?.case === "property" ? (on.value.of?.twins[0] ?? "") : "");
  const [property, setProperty] = useState(on?.case === "property" ? (on.value.names[0] ?? "") : "");
  const [value, setValue] = useState("");
  const test = useMutation({
    mutationFn: () => {
      let given: unknown = value;
      try {
        given = JSON.parse(value);
      } catch {
        // a text
      }
      return automation.testRule({ id: rule.id, twin: twin === "" ? "" : full(twin), values: value === "" || property === "" ? {} : { [property]: toValue(given) } });
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    test.mutate();
  };
  const e = test.data?.evaluation;
  return (
    <form className="stack pad" onSubmit={submit} aria-label="Test">
      <div className="rule-fields">
        <TwinInput label="Twin" project="" visible value={twin} onChange={setTwin} />
        <TextInput label="Property" value={property} onChange={(x) => setProperty(x.currentTarget.value)} />
        <TextInput label="Value" placeholder="its own" value={value} onChange={(x) => setValue(x.currentTarget.value)} />
        <Button type="submit" variant="default" loading={test.isPending}>
          Test
        </Button>
      </div>
      <Trouble error={test.error && explain(test.error)} />
      {e && (
        <p role="status" aria-label="Verdict">
          <b>{e.error || e.verdict}</b> <code>{seen(e.values)}</code>
          {test.data?.actions.map((a) => (
            <span key={a} className="rule-would">
              would {a}
            </span>
          ))}
        </p>
      )}
    </form>
  );
}

function toValue(v: unknown) {
  switch (typeof v) {
    case "number":
      return { kind: { case: "numberValue" as const, value: v } };
    case "boolean":
      return { kind: { case: "boolValue" as const, value: v } };
    default:
      return { kind: { case: "stringValue" as const, value: typeof v === "string" ? v : JSON.stringify(v) } };
  }
}

const spans = [
  { value: "3600", label: "the last hour" },
  { value: "86400", label: "the last 24 hours" },
  { value: "604800", label: "the last 7 days" },
];

/** When a rule would have fired, had it been there. */
export function DryRun({ rule }: { rule: Rule }) {
  const [span, setSpan] = useState("86400");
  const run = useMutation({
    mutationFn: () => automation.dryRunRule({ id: rule.id, start: timestampFromMs(Date.now() - Number(span) * 1000), limit: 100 }),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    run.mutate();
  };
  const d = run.data;
  return (
    <form className="stack pad" onSubmit={submit} aria-label="Dry run">
      <div className="rule-fields">
        <Select label="Over what was recorded in" data={spans} value={span} allowDeselect={false} onChange={(to) => to && setSpan(to)} />
        <Button type="submit" variant="default" loading={run.isPending}>
          Dry run
        </Button>
      </div>
      <Trouble error={run.error && explain(run.error)} />
      {d && (
        <>
          <Facts
            list={[
              ["Would have fired", count(d.state?.firings ?? 0n)],
              ["Evaluated", count(d.state?.evaluations ?? 0n)],
              ["Twins", count(d.twins)],
              ["Recorded", count(d.records)],
            ]}
          />
          {d.notes.map((text) => (
            <p key={text} className="muted">
              {text}
            </p>
          ))}
          {d.firings.length > 0 && (
            <div className="scroll-x">
              <Table verticalSpacing={4} aria-label="Firings">
                <Table.Tbody>
                  {d.firings.map((f, i) => (
                    <Table.Tr key={i}>
                      <Table.Td className="nowrap">{dateTime(millis(f.time))}</Table.Td>
                      <Table.Td>
                        {f.subject && <code>{f.subject}</code>} {f.cause}
                        {f.otherwise && ", ceased"}
                      </Table.Td>
                      <Table.Td>{f.actions.join("; ")}</Table.Td>
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </div>
          )}
        </>
      )}
    </form>
  );
}
