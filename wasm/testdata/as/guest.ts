// A guest for the tests of the metering: AssemblyScript with its own collector.
let input: usize = 0;
let room: u32 = 0;
let output: ArrayBuffer = new ArrayBuffer(0);
let state: u64 = 0;

export function alloc(n: u32): usize {
  if (n > room) {
    input = input == 0 ? heap.alloc(n) : heap.realloc(input, n);
    room = n;
  }
  return input;
}

export function tight(n: u32): u32 {
  let x: u32 = 1;
  for (let i: u32 = 0; i < n; i++) x = (x * 1664525 + 1013904223) ^ i;
  return x;
}

export function recurse(n: u32): u32 {
  if (n == 0) return 0;
  return recurse(n - 1) + 1;
}

function next(): u32 {
  state = state * 6364136223846793005 + 1442695040888963407;
  return <u32>(state >> 33);
}

class Node {
  left: Node | null = null;
  right: Node | null = null;
  constructor(public key: u32) {}
}

function insert(node: Node | null, key: u32): Node {
  if (node === null) return new Node(key);
  if (key < node.key) node.left = insert(node.left, key);
  else node.right = insert(node.right, key);
  return node;
}

function sum(node: Node | null): u64 {
  if (node === null) return 1;
  return (sum(node.left) * 31 + node.key) ^ sum(node.right);
}

export function mix(seed: u32, n: u32): u64 {
  state = seed;
  let total: u64 = seed;
  for (let step: u32 = 0; step < n; step++) {
    const v = next();
    switch (v % 8) {
      case 0: {
        let tree: Node | null = null;
        for (let i: u32 = 0; i < v % 60; i++) tree = insert(tree, next() % 1000);
        total += sum(tree);
        break;
      }
      case 1: {
        const words = new Map<string, i32>();
        for (let i: u32 = 0; i < v % 40; i++) {
          const word = "w" + (next() % 16).toString();
          words.set(word, words.has(word) ? words.get(word) + 1 : 1);
        }
        const keys = words.keys();
        for (let i = 0; i < keys.length; i++) total = total * 31 + words.get(keys[i]) + keys[i].length;
        break;
      }
      case 2: {
        const list = new Array<f64>(100);
        for (let i = 0; i < 100; i++) list[i] = Math.sqrt(<f64>(next() % 5000));
        list.sort((a: f64, b: f64): i32 => a < b ? -1 : a > b ? 1 : 0);
        total += <u64>(list[v % 100] * 1000);
        break;
      }
      case 3: {
        const bytes = new Uint8Array(v % 200_000 + 1);
        bytes.fill(<u8>v);
        bytes.copyWithin(777 % bytes.length, 0);
        total += bytes[v % bytes.length];
        break;
      }
      case 4: total += tight(v % 500); break;
      case 5: total += recurse(v % 200); break;
      case 6: if (v % 2003 == 0) throw new Error("to order"); break;
      default: total = rotl<u64>(total, 7) + v;
    }
  }
  return total;
}

function member(s: string, name: string): string {
  const key = '"' + name + '":';
  let from = s.indexOf(key);
  if (from < 0) return "null";
  from += key.length;
  if (s.charCodeAt(from) == 34) return s.substring(from, s.indexOf('"', from + 1) + 1);
  let to = from;
  while (s.charCodeAt(to) != 44 && s.charCodeAt(to) != 125) to++;
  return s.substring(from, to);
}

export function handle(p: usize, n: u32): u64 {
  const s = String.UTF8.decodeUnsafe(p, n);
  const level = I32.parseInt(member(s, "level")) + 1;
  output = String.UTF8.encode('{"ok":true,"id":' + member(s, "id") + ',"zone":' + member(s, "zone") + ',"level":' +
    level.toString() + ',"source":' + member(s, "source") + ',"trace":' + member(s, "trace") + "}");
  return (<u64>changetype<usize>(output)) << 32 | <u64>output.byteLength;
}
