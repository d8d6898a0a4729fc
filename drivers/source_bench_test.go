package drivers_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/js"
)

const benchScript = `export default driver({
  name: 'bench', version: '1.0.0',
  actions: { next: { input: {}, output: {}, run: (twin, reading) => ({ ...reading, count: reading.count + 1 }) } },
});`

// benchReading makes a command's input of 200 bytes.
const benchReading = `{"action":"next","input":{"count":41,"device":"meter-4711","on":true,"power":1843.5,"voltage":230.1,` +
	`"phases":[612.5,618.2,612.8],"labels":{"room":"2.14","floor":"second"},"status":"normal operation","ok":1}}`

func bench(b *testing.B, line map[string]any) {
	b.Helper()
	text, err := json.Marshal(line)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	fmt.Printf("\nBENCH %s\n", text)
}

// BenchmarkScriptJSON compares a command of 200 bytes of JSON, in and out, through the sandbox with the same engine and
// source in bare wazero, without fuel and deadline, whose host functions only copy. They take turns; the best turn counts.
func BenchmarkScriptJSON(b *testing.B) {
	drivertest.NeedEngine(b)
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b)})
	r := load(b, s, []byte(benchScript))
	bare := newBareScript(b, benchScript)
	call := drivers.Call{Event: drivers.EventCommand, Tenant: "a", Input: []byte(benchReading)}
	const turns, calls = 15, 500
	ours, floor := time.Hour, time.Hour
	for range turns {
		began := time.Now()
		for range calls {
			if e, err := r.Handle(lazyDeadline{b.Context(), time.Now().Add(time.Second)}, call, &host{}); err != nil || len(e.Output) < 150 {
				b.Fatal(string(e.Output), err)
			}
		}
		ours = min(ours, time.Since(began)/calls)
		began = time.Now()
		for range calls {
			if bare.handle(b, uint64(drivers.EventCommand), []byte(benchReading)) != 0 || len(bare.output) < 150 {
				b.Fatal(string(bare.output))
			}
		}
		floor = min(floor, time.Since(began)/calls)
	}
	ratio := float64(ours) / float64(floor)
	bench(b, map[string]any{"name": "metered JavaScript: 200 B of JSON", "unit": "µs", "ours": float64(ours.Nanoseconds()) / 1000,
		"floor": float64(floor.Nanoseconds()) / 1000, "ratio": ratio, "goal": "at most 1.6 times the floor", "met": ratio <= 1.6})
}

// BenchmarkScriptFresh is a first call in a new instance, less the same call in one that is warm.
func BenchmarkScriptFresh(b *testing.B) {
	drivertest.NeedEngine(b)
	file, err := os.ReadFile("conformance/thermostat/js/thermostat.js")
	if err != nil {
		b.Fatal(err)
	}
	const calls = 200
	call := drivers.Call{Event: drivers.EventDisconnected, Tenant: "a", Input: []byte(`{}`)}
	each := func(instanceCalls int) time.Duration {
		s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b), InstanceCalls: instanceCalls})
		r := load(b, s, file)
		best := time.Hour
		for range calls {
			began := time.Now()
			if _, err := r.Handle(b.Context(), call, &host{}); err != nil {
				b.Fatal(err)
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	fresh := each(1) - each(0)
	bench(b, map[string]any{"name": "fresh JavaScript instance", "unit": "ms", "ours": float64(fresh.Microseconds()) / 1000,
		"goal": "at most 0.2 ms", "met": fresh <= 200*time.Microsecond})
}

// BenchmarkScriptUpload is what an upload costs, from the file to the answer of its first call, on a node that has run any
// driver in JavaScript before.
func BenchmarkScriptUpload(b *testing.B) {
	drivertest.NeedEngine(b)
	file, err := os.ReadFile("conformance/thermostat/js/thermostat.js")
	if err != nil {
		b.Fatal(err)
	}
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b)})
	load(b, s, []byte(benchScript))
	best := time.Hour
	for i := range 20 {
		source := append(bytes.Clone(file), fmt.Sprintf("\n// %d", i)...)
		began := time.Now()
		if _, err := s.Verify(b.Context(), source); err != nil {
			b.Fatal(err)
		}
		r, err := s.Load(b.Context(), source)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Handle(b.Context(), drivers.Call{Event: drivers.EventDisconnected, Tenant: "a", Input: []byte(`{}`)}, &host{}); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(began))
		_ = r.Close()
	}
	bench(b, map[string]any{"name": "upload to first call, JavaScript", "unit": "ms", "ours": float64(best.Microseconds()) / 1000,
		"goal": "at most 50 ms", "met": best <= 50*time.Millisecond})
}

// bareScript is the engine as it was built, in bare wazero.
type bareScript struct {
	mod           api.Module
	entry         api.Function
	input, output []byte
	stack         [2]uint64
}

func newBareScript(b testing.TB, source string) *bareScript {
	b.Helper()
	ctx := context.Background()
	engine, err := js.Engine()
	if err != nil {
		b.Fatal(err)
	}
	rt := wazero.NewRuntime(ctx)
	b.Cleanup(func() { _ = rt.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	s := &bareScript{}
	i32 := api.ValueTypeI32
	hosts := rt.NewHostModuleBuilder(drivers.Contract)
	pull := func(name string, from *[]byte) {
		hosts.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) {
			m.Memory().Write(uint32(stack[0]), *from)
		}), []api.ValueType{i32}, nil).Export(name)
	}
	pull("input", &s.input)
	pull("reply", &s.input)
	hosts.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) {
		out, _ := m.Memory().Read(uint32(stack[0]), uint32(stack[1]))
		s.output = append(s.output[:0], out...)
	}), []api.ValueType{i32, i32}, nil).Export("output")
	for _, name := range drivers.Offered() {
		hosts.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) { stack[0] = 0 }),
			[]api.ValueType{i32, i32}, []api.ValueType{i32}).Export(name)
	}
	if _, err := hosts.Instantiate(ctx); err != nil {
		b.Fatal(err)
	}
	name, functions := js.Imports()
	watch := rt.NewHostModuleBuilder(name)
	for name, rule := range functions {
		watch.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) { clear(stack) }),
			bytes.Repeat([]byte{i32}, len(rule.Signature.Params)), bytes.Repeat([]byte{i32}, len(rule.Signature.Results))).Export(name)
	}
	if _, err := watch.Instantiate(ctx); err != nil {
		b.Fatal(err)
	}
	if s.mod, err = rt.InstantiateWithConfig(ctx, engine, wazero.NewModuleConfig().WithStartFunctions("_initialize")); err != nil {
		b.Fatal(err)
	}
	s.entry = s.mod.ExportedFunction("drv_handle")
	s.run(b, "js_start", js.SDK())
	s.run(b, "js_load", source, "bench.js")
	return s
}

// run calls an entry with a text and its length, and where there is one another text.
func (s *bareScript) run(b testing.TB, entry, text string, more ...string) {
	b.Helper()
	args := []uint64{s.place(b, text), uint64(len(text))}
	for _, t := range more {
		args = append(args, s.place(b, t))
	}
	out, err := s.mod.ExportedFunction(entry).Call(context.Background(), args...)
	if err != nil {
		b.Fatal(err)
	}
	if len(more) > 0 {
		pair, _ := s.mod.Memory().Read(uint32(out[0]), 8)
		result, _ := s.mod.Memory().Read(binary.LittleEndian.Uint32(pair), binary.LittleEndian.Uint32(pair[4:]))
		if !bytes.HasPrefix(result, []byte(`{"manifest":`)) {
			b.Fatalf("%s", result)
		}
	}
}

func (s *bareScript) place(b testing.TB, text string) uint64 {
	b.Helper()
	at, err := s.mod.ExportedFunction("js_alloc").Call(context.Background(), uint64(len(text)+1))
	if err != nil || !s.mod.Memory().Write(uint32(at[0]), append([]byte(text), 0)) {
		b.Fatal(err)
	}
	return at[0]
}

func (s *bareScript) handle(b testing.TB, event uint64, input []byte) uint32 {
	s.input = input
	s.stack[0], s.stack[1] = event, uint64(len(input))
	if err := s.entry.CallWithStack(context.Background(), s.stack[:]); err != nil {
		b.Fatal(err)
	}
	return uint32(s.stack[0])
}
