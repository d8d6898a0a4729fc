import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { aliases, twins } from "../../api/client";
import { NamedAliasSchema } from "../../gen/pollux/v1/alias_pb";
import { ApplyOutcome, ApplyResultSchema, FieldChangeSchema, type ApplyResult } from "../../gen/pollux/v1/bulk_pb";
import { AliasSchema, type Alias } from "../../gen/pollux/v1/twin_pb";
import type { PlanLine } from "./plan";

/** How many twins are given aliases at the same time. */
const writers = 8;

/** Gives aliases to their twins: those of one twin in their order, those of several side by side. */
export async function giveAliases(lines: readonly PlanLine[], project: string, dry: boolean, signal: AbortSignal): Promise<ApplyResult[]> {
  const results: ApplyResult[] = [];
  const byTwin = new Map<string, number[]>();
  lines.forEach(({ record: { record } }, i) => {
    const id = record.case === "twin" ? record.value.id : "";
    byTwin.set(id, [...(byTwin.get(id) ?? []), i]);
  });
  const waiting = byTwin.values();
  const write = async () => {
    for (const of of waiting) {
      for (const i of of) {
        const line = lines[i];
        if (line) results[i] = await giveAlias(line, project, dry, signal);
      }
    }
  };
  await Promise.all(Array.from({ length: writers }, write));
  return results;
}

const refusals = [Code.NotFound, Code.InvalidArgument, Code.AlreadyExists, Code.FailedPrecondition, Code.ResourceExhausted, Code.Aborted];

/** What is wrong with the line is in the result; it throws what is wrong with the node or the way to it. */
async function giveAlias({ id, record: { record } }: PlanLine, project: string, dry: boolean, signal: AbortSignal): Promise<ApplyResult> {
  const result = create(ApplyResultSchema, { kind: "alias", id });
  const given = record.case === "twin" ? record.value : undefined;
  const alias = given?.aliases[0] ?? create(AliasSchema);
  const twin = given?.id.includes("/") ? given.id : `${project}/${given?.id}`;
  const refused = (error: string) => Object.assign(result, { outcome: ApplyOutcome.REFUSED, error, changes: [] });
  if (!twin.startsWith(`${project}/`)) return refused(`${twin} is in another project than ${project}`);
  const request = { project, named: create(NamedAliasSchema, { alias, twin }) };
  try {
    await twins.getTwin({ id: twin }, { signal });
    const old = await holder(project, alias, signal);
    if (old === twin) result.outcome = ApplyOutcome.UNCHANGED;
    else if (old === undefined) {
      result.outcome = ApplyOutcome.CREATED;
      if (!dry) await aliases.createAlias(request, { signal });
    } else {
      result.outcome = ApplyOutcome.CHANGED;
      result.changes.push(create(FieldChangeSchema, { field: "twin", old, new: twin }));
      if (!dry) await aliases.updateAlias(request, { signal });
    }
    return result;
  } catch (error) {
    const known = ConnectError.from(error);
    if (refusals.includes(known.code)) return refused(known.rawMessage);
    throw error;
  }
}

/** The twin that has an alias. */
async function holder(project: string, alias: Alias, signal: AbortSignal): Promise<string | undefined> {
  try {
    return (await aliases.getAlias({ project, alias }, { signal })).named?.twin;
  } catch (error) {
    if (ConnectError.from(error).code === Code.NotFound) return undefined;
    throw error;
  }
}
