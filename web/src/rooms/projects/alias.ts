import type { NamedAlias } from "../../gen/pollux/v1/alias_pb";

/** An alias as one word of the address: project, network, key and value, each escaped. */
export function idOf(m: Pick<NamedAlias, "project" | "alias">): string {
  return [m.project, m.alias?.network ?? "", m.alias?.key ?? "", m.alias?.value ?? ""].map(encodeURIComponent).join("/");
}
