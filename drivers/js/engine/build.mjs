// Builds the engine: QuickJS as npm has it, merged with the shim, without what nothing calls. Usage: node build.mjs OUT.wasm
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2];
if (!out) {
  console.error('usage: node build.mjs OUT.wasm');
  process.exit(2);
}

// In the order of their numbers for native(), from 16 on; the prelude has the same list.
const capabilities = JSON.parse(readFileSync(join(here, 'capabilities.json'), 'utf8'));
const exported = ['memory', '_initialize', 'drv_handle', 'js_alloc', 'js_start', 'js_load'];
// Bytes of the engine's own stack that JavaScript may use. Deeper recursion, some 300 calls, is a RangeError: the sandbox's bound
// of 16 MB, which is a crash, comes later.
const stack = 80 << 10;

const imports = capabilities.map((name) => `(import "twin1" "${name}" (func $twin_${name} (param i32 i32) (result i32)))`);
const labels = capabilities.map((_, i) => `$c${i}`);
let dispatch = `(br_table ${labels.join(' ')} $none (i32.sub (local.get $op) (i32.const 16)))`;
capabilities.forEach((name, i) => {
  dispatch = `(block $c${i} ${dispatch})\n (return (call $twin_${name} (local.get $ptr) (local.get $len)))`;
});
const capability = `(func $capability (param $op i32) (param $ptr i32) (param $len i32) (result i32)
  (block $none ${dispatch})\n (i32.const -6))`;

const tmp = mkdtempSync(join(tmpdir(), 'pollux-engine-'));
try {
  const at = (name) => join(tmp, name);
  const tool = (name, ...args) =>
    execFileSync(process.execPath, [join(here, 'node_modules/binaryen/bin', name), ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const shim = readFileSync(join(here, 'shim.wat'), 'utf8')
    .replace(';;CAPABILITIES', imports.join('\n  '))
    .replace(';;DISPATCH', capability)
    .replace('STACK', String(stack));
  const [engine, free] = growTable(readFileSync(join(here, 'node_modules/quickjs-wasi/quickjs.wasm')));
  writeFileSync(at('quickjs.wasm'), engine);
  writeFileSync(at('shim.wat'), shim.replaceAll('FREE', String(free)));
  const features = ['--enable-bulk-memory', '--enable-reference-types', '--enable-mutable-globals', '--enable-sign-ext',
    '--enable-nontrapping-float-to-int', '--enable-multivalue', '--enable-bulk-memory-opt'];
  tool('wasm-merge', ...features, at('quickjs.wasm'), 'qjs', at('shim.wat'), 'env',
    '--rename-export-conflicts', '-o', at('merged.wasm'));
  const graph = exported.map((name) => ({ name, root: true, export: name }));
  writeFileSync(at('graph.json'), JSON.stringify(graph));
  tool('wasm-metadce', ...features, at('merged.wasm'), '--graph-file', at('graph.json'), '-o', at('lean.wasm'));
  tool('wasm-opt', ...features, at('lean.wasm'), '-O2', '-o', out);
} finally {
  rmSync(tmp, { recursive: true, force: true });
}

// growTable makes room for one more function in the engine's table, the shim's native function, and tells its index. The table
// has no room to grow then: the sandbox takes none without a bound, and copies no instance whose table changes.
function growTable(file) {
  let at = 8;
  const number = () => {
    let n = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = file[at++];
      n |= (byte & 127) << shift;
      if (byte < 128) return n;
    }
  };
  const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >> 7)]);
  for (;;) {
    const start = at;
    const id = file[at++];
    const end = number() + at;
    if (id !== 4) {
      at = end;
      continue;
    }
    const [count, type, flags, min] = [number(), file[at++], file[at++], number()];
    if (count !== 1 || flags !== 0 || at !== end) throw new Error('the engine has other tables than it had');
    const table = [1, type, 1, ...leb(min + 1), ...leb(min + 1)];
    return [Buffer.concat([file.subarray(0, start), Buffer.from([4, ...leb(table.length), ...table]), file.subarray(end)]), min];
  }
}
