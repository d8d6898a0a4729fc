// Runs the browser tests, or those whose files are named. A file that fails is tried once more; what passes only then is listed, for it is a
// bug of the test or of the program.
import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const named = process.argv.slice(2).map((f) => resolve(f));
const all = readdirSync(here).filter((f) => f.endsWith(".test.mjs")).sort().map((f) => join(here, f));

/** failing runs the files one after the other and gives those in which something failed, with the names of what did. */
async function failing(files) {
  const failed = new Map();
  for (const file of files) {
    const stream = run({ files: [file], timeout: 3_600_000 });
    stream.on("test:fail", ({ name }) => failed.set(file, [...(failed.get(file) ?? []), name]));
    const text = stream.compose(new spec());
    text.pipe(process.stdout);
    await new Promise((done, fail) => text.on("end", done).on("error", fail));
  }
  return failed;
}

const first = await failing(named.length ? named : all);
if (first.size) {
  console.log(`tried once more: ${[...first.keys()].join(", ")}`);
  const second = await failing([...first.keys()]);
  for (const [file, names] of first) {
    if (!second.has(file)) console.log(`passed only when tried again, to be mended: ${names.join(", ")}`);
  }
  process.exit(second.size ? 1 : 0);
}
