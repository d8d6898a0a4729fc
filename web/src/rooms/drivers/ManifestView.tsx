import { Table } from "@mantine/core";
import type { ReactNode } from "react";

import type { Driver } from "../../gen/pollux/v1/driver_pb";
import { parseManifest, readModel } from "../../model/thing";
import { unitSymbol } from "../../model/unit";
import { kindOf, memberOf, places, type Schema } from "../../schema/types";

/** What a driver says of itself, in tables. */
export function ManifestView({ driver }: { driver: Driver }) {
  const manifest = parseManifest(driver.manifestJson);
  if (!manifest) return <p className="muted pad">The node gave no manifest.</p>;
  const model = readModel(manifest.model ?? {});
  const settings = Object.entries(manifest.settings?.properties ?? {});
  return (
    <div className="manifest">
      <dl className="facts">
        <div>
          <dt>Transport</dt>
          <dd>{driver.transports.join(", ") || "none"}</dd>
        </div>
        <div>
          <dt>May use</dt>
          <dd>
            {driver.capabilities.map((c) => (
              <span key={c} className="tag">
                {c}
              </span>
            ))}
            {driver.capabilities.length === 0 && "nothing"}
          </dd>
        </div>
        <div>
          <dt>Memory</dt>
          <dd>{manifest.memory_mb ?? 32} MiB at most</dd>
        </div>
      </dl>
      <Part
        name="Properties"
        head={["Property", "Type", "Unit", ""]}
        rows={model.properties.map((p) => [named(p.title, p.name, p.description), type(p.schema), unitSymbol(p.unit ?? ""), p.writable ? "can be set" : ""])}
      />
      <Part
        name="Actions"
        head={["Action", "Takes"]}
        rows={model.actions.map((a) => [named(a.title, a.name, a.description), a.input ? type(a.input) : "nothing"])}
      />
      <Part name="Events" head={["Event"]} rows={model.events.map((e) => [named(e.title, e.name, e.description)])} />
      <Part
        name="Settings"
        head={["Setting", "Type", ""]}
        rows={settings.map(([name, s]) => [
          named(s.title ?? name, name, s.description),
          type(s),
          [manifest.settings?.required?.includes(name) ? "needed" : "", s.writeOnly ? "secret" : ""].filter(Boolean).join(", "),
        ])}
      />
    </div>
  );
}

function Part({ name, head, rows }: { name: string; head: string[]; rows: ReactNode[][] }) {
  if (rows.length === 0) return null;
  return (
    <Table verticalSpacing={4} aria-label={name}>
      <Table.Thead>
        <Table.Tr>
          {head.map((h, i) => (
            <Table.Th key={i}>{h}</Table.Th>
          ))}
        </Table.Tr>
      </Table.Thead>
      <Table.Tbody>
        {rows.map((cells, i) => (
          <Table.Tr key={i}>
            {cells.map((cell, j) => (
              <Table.Td key={j}>{cell}</Table.Td>
            ))}
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function named(title: string, name: string, description?: string): ReactNode {
  return (
    <>
      {title} <code>{name}</code>
      {description && <div className="muted">{description}</div>}
    </>
  );
}

function type(schema: Schema): string {
  switch (kindOf(schema)) {
    case "enum":
      return (schema.enum ?? (schema.oneOf ?? []).map((o) => o.const)).map(String).join(" | ");
    case "integer":
    case "number":
      return schema.minimum !== undefined && schema.maximum !== undefined
        ? `${schema.minimum} – ${schema.maximum}`
        : schema.type === "integer"
          ? "whole number"
          : "number";
    case "boolean":
      return "on | off";
    case "string":
      return "text";
    case "object":
      return Object.entries(schema.properties ?? {})
        .map(([name, s]) => `${name}: ${type(s)}`)
        .join(", ");
    case "array":
      return `list of ${type(memberOf(schema))}`;
    default:
      return places(schema).length > 0 ? `[${places(schema).map(type).join(", ")}]` : "JSON";
  }
}
