package drivers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

// mixScript does in one command what an engine does: objects, text, patterns, exceptions, recursion, closures, big
// numbers, generators, much garbage. The seed says what.
const mixScript = `
class Random {
  constructor(seed) { this.state = seed >>> 0; }
  next() { return this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0; }
}
const fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2);
function* upTo(n) { for (let i = 0; i < n; i++) yield i * i; }
const steps = [
  (r, sum) => { const m = new Map(); for (let i = 0; i < 50; i++) { const k = 'w' + r.next() % 16; m.set(k, (m.get(k) || 0) + 1); }
    return sum + [...m].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 3).join(';'); },
  (r, sum) => { try { if (r.next() % 3) throw new RangeError('r' + r.next() % 9); null.x; } catch (e) { return sum + e.name + e.message; } return sum; },
  (r, sum) => sum + fib(r.next() % 15),
  (r, sum) => sum + ('a1b22c333'.repeat(r.next() % 9)).replace(/[a-c](\d+)/g, (_, d) => '<' + d + '>').length,
  (r, sum) => sum + (BigInt(r.next()) ** 7n % 1000003n),
  (r, sum) => sum + JSON.stringify(JSON.parse('{"a":[1,2,{"b":' + r.next() % 1000 + '}],"c":"\\u00e9"}')),
  (r, sum) => { let n = 0; for (const v of upTo(r.next() % 40)) n += v; return sum + n; },
  (r, sum) => { const all = []; for (let i = 0; i < 400; i++) all.push({ i, text: 'x'.repeat(i % 30) }); return sum + all.filter(o => o.i % 7 == r.next() % 7).length; },
  (r, sum) => { const deep = n => n ? deep(n - 1) + 1 : 0; try { return sum + deep(r.next() % 300); } catch (e) { return sum + e.name; } },
  (r, sum) => sum + (Math.sin(r.next()) * Math.sqrt(r.next())).toFixed(6),
  (r, sum) => { const b = new Uint8Array(r.next() % 5000).fill(r.next()); b.copyWithin(3, 0); return sum + b.reduce((a, v) => (a * 31 + v) >>> 0, 7); },
];
export default driver({
  name: 'bench', version: '1.0.0',
  actions: { mix: { input: {}, output: {}, run: (twin, seed) => {
    const r = new Random(seed);
    let sum = '';
    for (let n = 0; n < 40; n++) { sum = String(steps[r.next() % steps.length](r, sum)); if (sum.length > 400) sum = sum.slice(-200); }
    return sum;
  } } },
});`

// TestMeteredScriptsDoTheSame: the JavaScript engine, metered and begun as a copy, gives what the engine as it was built
// gives in bare wazero.
func TestMeteredScriptsDoTheSame(t *testing.T) {
	drivertest.NeedEngine(t)
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	r := load(t, s, []byte(mixScript))
	bare := newBareScript(t, mixScript)
	for seed := range 60 {
		input := fmt.Appendf(nil, `{"action":"mix","input":%d}`, seed)
		if bare.handle(t, uint64(drivers.EventCommand), input) != 0 {
			t.Fatalf("seed %d: %s", seed, bare.output)
		}
		e, err := r.Handle(lazyDeadline{t.Context(), time.Now().Add(time.Minute)}, drivers.Call{Event: drivers.EventCommand, Tenant: "a", Input: input}, &host{})
		if err != nil || string(e.Output) != string(bare.output) || len(e.Output) < 10 {
			t.Fatalf("seed %d: %s, %v; as built: %s", seed, e.Output, err, bare.output)
		}
	}
}
