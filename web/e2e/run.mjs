// Runs the browser tests, or those whose files are named, two files at a time: they wait more than they work. A file that fails is tried
// once more, alone; what passes only then is listed, for it is a bug of the test or of the program.
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const named = process.argv.slice(2).map((f) => resolve(f));
const all = readdirSync(here).filter((f) => f.endsWith(".test.mjs")).sort().map((f) => join(here, f));

/** failing runs the files, so many at a time, and gives those in which something failed, with the names of what did. */
async function failing(files, width) {
  const failed = new Map();
  const left = [...files];
  const worker = async () => {
    for (let file = left.shift(); file; file = left.shift()) {
      const stream = run({ files: [file], timeout: 3_600_000 });
      stream.on("test:fail", ({ name }) => failed.set(file, [...(failed.get(file) ?? []), name]));
      let told = "";
      const text = stream.compose(new spec()).setEncoding("utf8");
      text.on("data", (part) => (told += part));
      await once(text, "end");
      process.stdout.write(told); // whole, so that two files do not mix
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return failed;
}

const first = await failing(named.length ? named : all, 2);
if (first.size) {
  console.log(`tried once more: ${[...first.keys()].join(", ")}`);
  const second = await failing([...first.keys()], 1);
  for (const [file, names] of first) {
    if (!second.has(file)) console.log(`passed only when tried again, to be mended: ${names.join(", ")}`);
  }
  process.exit(second.size ? 1 : 0);
}
