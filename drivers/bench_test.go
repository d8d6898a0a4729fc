package drivers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/wasm"
)

const (
	benchInput = `{"action":"count","input":null}`
	benchState = `{"properties":{"count":41,"level":21.5,"on":true,"label":"lobby"},"memory":{"calls":41}}`
)

// BenchmarkDriverEvent measures a driver's event with state in and out through the pool, beside the same metered guest
// that is called directly: its host functions only copy. The two take turns, and of each the best turn counts.
func BenchmarkDriverEvent(b *testing.B) {
	const turns, events = 15, 2000
	file := drivertest.Echo(b)
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b)})
	r := load(b, s, file)
	d := newDirect(b, file)
	call := drivers.Call{Event: drivers.EventCommand, Tenant: "default", Input: []byte(benchInput),
		State: func() []byte { return []byte(benchState) }}
	h := &host{}
	ours, floor := time.Hour, time.Hour
	for range turns {
		start := time.Now()
		for range events {
			e, err := r.Handle(lazyDeadline{b.Context(), time.Now().Add(time.Second)}, call, h)
			if err != nil || len(e.Changes) != 1 || len(e.Memory) == 0 {
				b.Fatal(e, err)
			}
		}
		ours = min(ours, time.Since(start)/events)
		start = time.Now()
		for range events {
			if d.call(b.Context(), uint64(drivers.EventCommand), []byte(benchInput)) != 0 || d.sets != 1 {
				b.Fatal("the call failed")
			}
		}
		floor = min(floor, time.Since(start)/events)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours.Nanoseconds()), "ours-ns")
	b.ReportMetric(float64(floor.Nanoseconds()), "floor-ns")
	b.ReportMetric(float64((ours - floor).Nanoseconds()), "more-ns")
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	line, err := json.Marshal(map[string]any{"name": "driver event through the pool, state in and out", "unit": "µs",
		"ours": micros(ours), "floor": micros(floor), "ratio": float64(ours) / float64(floor),
		"goal": "at most 1 µs more than the floor", "met": ours-floor <= time.Microsecond})
	if err != nil {
		b.Fatal(err)
	}
	fmt.Printf("\nBENCH %s\n", line)
}

// lazyDeadline is a context with a deadline and no timer.
type lazyDeadline struct {
	context.Context
	deadline time.Time
}

func (c lazyDeadline) Deadline() (time.Time, bool) { return c.deadline, true }

// direct calls a guest without anything in between.
type direct struct {
	handle api.Function
	input  []byte
	reply  []byte
	sets   int
	got    []byte
	stack  [2]uint64
}

func newDirect(b *testing.B, file []byte) *direct {
	ctx := context.Background()
	d := &direct{}
	cache, err := wazero.NewCompilationCacheWithDir(drivertest.CacheDir(b))
	if err != nil {
		b.Fatal(err)
	}
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(false).
		WithCompilationCache(cache))
	b.Cleanup(func() { _ = rt.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	verified, err := wasm.Verify(file, drivers.Rules())
	if err != nil {
		b.Fatal(err)
	}
	metered, err := wasm.Meter(verified)
	if err != nil {
		b.Fatal(err)
	}
	i32 := api.ValueTypeI32
	module, function := wasm.MeterImport()
	meter := rt.NewHostModuleBuilder(module)
	meter.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, s []uint64) { s[0] = 1 << 21 }),
		[]api.ValueType{i32}, []api.ValueType{api.ValueTypeI64}).Export(function)
	if _, err := meter.Instantiate(ctx); err != nil {
		b.Fatal(err)
	}
	hm := rt.NewHostModuleBuilder("twin1")
	pull := func(name string, from *[]byte) {
		hm.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, s []uint64) {
			m.Memory().Write(uint32(s[0]), *from)
		}), []api.ValueType{i32}, nil).Export(name)
	}
	pull("input", &d.input)
	pull("reply", &d.reply)
	hm.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, s []uint64) {
		d.take(m, s)
	}), []api.ValueType{i32, i32}, nil).Export("output")
	for _, name := range drivers.Offered() {
		hm.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, m api.Module, s []uint64) {
			d.take(m, s)
			s[0] = 0
			switch name {
			case "state_get":
				d.reply = []byte(benchState)
				s[0] = uint64(len(d.reply))
			case "state_set":
				d.sets++
			}
		}), []api.ValueType{i32, i32}, []api.ValueType{i32}).Export(name)
	}
	if _, err := hm.Instantiate(ctx); err != nil {
		b.Fatal(err)
	}
	mod, err := rt.InstantiateWithConfig(ctx, metered.Bytes(), wazero.NewModuleConfig().WithName("").WithStartFunctions(append(wasm.MeterStart(), "_initialize")...).
		WithSysNanotime().WithSysWalltime())
	if err != nil {
		b.Fatal(err)
	}
	d.handle = mod.ExportedFunction("drv_handle")
	return d
}

func (d *direct) take(m api.Module, s []uint64) {
	b, _ := m.Memory().Read(uint32(s[0]), uint32(s[1]))
	d.got = append(d.got[:0], b...)
}

func (d *direct) call(ctx context.Context, event uint64, input []byte) uint32 {
	d.input, d.sets = input, 0
	d.stack[0], d.stack[1] = event, uint64(len(input))
	if err := d.handle.CallWithStack(ctx, d.stack[:]); err != nil {
		return 99
	}
	return uint32(d.stack[0])
}

// BenchmarkFrame is what an MQTT message costs: a frame with a value, no state read.
func BenchmarkFrame(b *testing.B) {
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b)})
	r := load(b, s, drivertest.Echo(b))
	call := drivers.Call{Event: drivers.EventReceived, Tenant: "default", Input: []byte("echo/x/set\x00{\"level\":21.5,\"on\":true}")}
	h := &host{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e, err := r.Handle(lazyDeadline{b.Context(), time.Now().Add(time.Second)}, call, h)
			if err != nil || len(e.Changes) != 2 {
				b.Error(e, err)
				return
			}
		}
	})
}
