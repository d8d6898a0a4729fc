/** A place in a file. Lines and columns count from 1. */
export interface Place {
  line: number;
  column?: number;
}

/** The first place of that kind of file that a sentence names: `lamp.js:12:3`, `lamp.test.yaml:4`. */
export function placeIn(text: string, kind: "js" | "yaml"): Place | undefined {
  const found = new RegExp(`\\.${kind}:(\\d+)(?::(\\d+))?`).exec(text);
  if (!found) return undefined;
  return found[2] ? { line: Number(found[1]), column: Number(found[2]) } : { line: Number(found[1]) };
}

const version = /(\bversion\s*:\s*)(['"])(\d+)\.(\d+)\.(\d+)[^'"]*\2/;

/** The version that a source declares. */
export function versionOf(source: string): string | undefined {
  const found = version.exec(source);
  return found ? `${found[3]}.${found[4]}.${found[5]}` : undefined;
}

/** The same source with the next patch version; as it is where it declares none. */
export function raise(source: string): string {
  return source.replace(version, (_, key: string, quote: string, major: string, minor: string, patch: string) =>
    `${key}${quote}${major}.${minor}.${Number(patch) + 1}${quote}`);
}

/** The name that a source declares. */
export function nameOf(source: string): string | undefined {
  return /\bname\s*:\s*['"]([a-z0-9][a-z0-9_-]{0,63})['"]/.exec(source)?.[1];
}
