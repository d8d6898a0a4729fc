package wasm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// world is wazero with nothing but WASI, whose clocks and random numbers are the same each time, and what metered guests ask
// for. Its guests run one at a time.
type world struct {
	runtime wazero.Runtime
	fuel    uint64
	refills int
}

var (
	errStack = errors.New("too deep")
	// compiled is shared by all guests that are built: Go's take a second to compile, and ten under the race detector.
	compiled = sync.OnceValue(func() wazero.CompilationCache {
		cache, err := wazero.NewCompilationCacheWithDir(cacheDir())
		if err != nil {
			return wazero.NewCompilationCache()
		}
		return cache
	})
)

func newWorld(tb testing.TB, cache wazero.CompilationCache) *world {
	tb.Helper()
	ctx := context.Background()
	w := &world{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithMemoryLimitPages(1024).
		WithCompilationCache(cache))}
	tb.Cleanup(func() { _ = w.runtime.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, w.runtime)
	module, function := wasm.MeterImport()
	meter := w.runtime.NewHostModuleBuilder(module)
	meter.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) {
		if w.refills++; uint32(stack[0]) != 0 {
			panic(errStack)
		}
		stack[0] = w.fuel
	}), []api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI64}).Export(function)
	if _, err := meter.Instantiate(ctx); err != nil {
		tb.Fatal(err)
	}
	return w
}

// bare is a guest in nothing but wazero.
type bare struct {
	*world
	mod api.Module
}

// newBare starts a guest, metered or not; metered ones get so much fuel at a time.
func newBare(tb testing.TB, file []byte, fuel uint64) *bare {
	tb.Helper()
	w := newWorld(tb, compiled())
	w.fuel = fuel
	return w.start(tb, file)
}

func (w *world) start(tb testing.TB, file []byte) *bare {
	tb.Helper()
	mod, err := w.runtime.InstantiateWithConfig(context.Background(), file,
		wazero.NewModuleConfig().WithName("").WithStartFunctions(append(wasm.MeterStart(), "_initialize")...))
	if err != nil {
		tb.Fatal(err)
	}
	return &bare{world: w, mod: mod}
}

func (b *bare) close() { _ = b.mod.Close(context.Background()) }

// call gives the results, or the reason of a trap.
func (b *bare) call(name string, args ...uint64) string {
	results, err := b.mod.ExportedFunction(name).Call(context.Background(), args...)
	if err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		return "trap: " + reason
	}
	return fmt.Sprint(results)
}

// memory is a digest of the guest's whole memory.
func (b *bare) memory() string {
	all, _ := b.mod.Memory().Read(0, b.mod.Memory().Size())
	return fmt.Sprintf("%d bytes, %x", len(all), sha256.Sum256(all))
}

const request = `{"id":"a81f0c3e-77","function":"setLevel","zone":"lobby-2","level":4711,"source":"panel/3","trace":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","ramp":{"ms":1500,"curve":"linear"},"tags":["a","b"]}`

// handle has the guest answer the request.
func (b *bare) handle(tb testing.TB) string {
	tb.Helper()
	got, err := b.mod.ExportedFunction("alloc").Call(context.Background(), uint64(len(request)))
	if err != nil || !b.mod.Memory().Write(uint32(got[0]), []byte(request)) {
		tb.Fatal(err)
	}
	got, err = b.mod.ExportedFunction("handle").Call(context.Background(), got[0], uint64(len(request)))
	if err != nil {
		tb.Fatal(err)
	}
	answer, _ := b.mod.Memory().Read(uint32(got[0]>>32), uint32(got[0]))
	return string(answer)
}

// anyImports are rules that let a module import what it likes.
func anyImports() *wasm.Rules {
	rules := testRules()
	rules.Exports = nil
	return rules
}

func metered(tb testing.TB, file []byte) []byte {
	tb.Helper()
	v, err := wasm.Verify(file, anyImports())
	if err != nil {
		tb.Fatal(err)
	}
	m, err := wasm.Meter(v)
	if err != nil {
		tb.Fatal(err)
	}
	return m.Bytes()
}

// corpus are the guests of the differential test and of the benchmarks.
func corpus() map[string]func(testing.TB) []byte {
	return map[string]func(testing.TB) []byte{
		"C":              func(tb testing.TB) []byte { return wasmtest.C(tb, source("c", "guest.c")) },
		"Rust":           func(tb testing.TB) []byte { return wasmtest.Rust(tb, source("rust", "guest.rs")) },
		"Go":             func(tb testing.TB) []byte { return wasmtest.Go(tb, source("go")) },
		"AssemblyScript": func(tb testing.TB) []byte { return wasmtest.AssemblyScript(tb, source("as", "guest.ts")) },
	}
}

// TestMeteredGuestsDoTheSame runs real guests as they are and metered, with little fuel and with much: the results of
// each call, the traps and in the end each byte of the memory are the same.
func TestMeteredGuestsDoTheSame(t *testing.T) {
	for name, file := range corpus() {
		t.Run(name, func(t *testing.T) {
			original := file(t)
			rewritten := metered(t, original)
			t.Logf("%d bytes, metered %d", len(original), len(rewritten))
			for fuel, seeds := range map[uint64]uint64{1: 1, 1000: 5, 1 << 40: 100 / uint64(thin)} {
				plain, got := newBare(t, original, 0), newBare(t, rewritten, fuel)
				traps := compareCalls(t, plain, got, seeds)
				t.Logf("fuel %d: %d refills, %d traps; memory %s", fuel, got.refills, traps, got.memory()[:24])
				if fuel < 1<<40 && got.refills < 100 {
					t.Errorf("only %d refills of %d", got.refills, fuel)
				}
			}
		})
	}
}

// compareCalls makes the same calls of both.
func compareCalls(t *testing.T, plain, got *bare, seeds uint64) (traps int) {
	t.Helper()
	if a, b := plain.handle(t), got.handle(t); a != b || !strings.Contains(b, `"level":4712`) {
		t.Fatalf("handle: %s\nmetered: %s", a, b)
	}
	for seed := range seeds {
		a, b := plain.call("mix", seed, 60), got.call("mix", seed, 60)
		if a != b {
			t.Fatalf("mix %d: %s; metered: %s", seed, a, b)
		}
		if strings.HasPrefix(a, "trap") {
			traps++
		}
	}
	for _, n := range []uint64{0, 1, 77, 5000} {
		if a, b := plain.call("recurse", n), got.call("recurse", n); a != b {
			t.Fatalf("recurse %d: %s; metered: %s", n, a, b)
		}
		if a, b := plain.call("tight", n), got.call("tight", n); a != b {
			t.Fatalf("tight %d: %s; metered: %s", n, a, b)
		}
	}
	if a, b := plain.memory(), got.memory(); a != b {
		t.Fatalf("memory: %s; metered: %s", a, b)
	}
	return traps
}

// TestBulkInstructionsDoTheSame compares memory.fill and memory.copy with their helpers, at the edges too.
func TestBulkInstructionsDoTheSame(t *testing.T) {
	three := wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32, wasmtest.I32}}
	args := wasmtest.Code(wasmtest.Local(0), wasmtest.Local(1), wasmtest.Local(2))
	m := &wasmtest.Module{Pages: []uint32{8}, Data: bytes.Repeat([]byte("0123456789abcdefg"), 20_000),
		Functions: []wasmtest.Function{
			{Type: three, Code: wasmtest.Code(args, 0xfc, 11, 0)}, {Type: three, Code: wasmtest.Code(args, 0xfc, 10, 0, 0)}},
		Exports: []wasmtest.Export{{Name: "fill"}, {Name: "copy", Index: 1}, {Name: "memory", Kind: 2}}}
	plain, got := newBare(t, m.Bytes(), 0), newBare(t, metered(t, m.Bytes()), 10)
	const piece, all = 64 << 10, 8 * 64 << 10
	edges := []uint64{0, 1, 100, piece - 1, piece, piece + 1, 2 * piece, 3*piece + 7, all - 1, all, all + 1, 1<<32 - 1, 1<<32 - piece, 1 << 31}
	calls, traps := 0, 0
	for _, to := range edges {
		for _, from := range edges {
			for _, n := range edges {
				name := "copy"
				if calls++; from == 100 {
					name = "fill"
				}
				a, b := plain.call(name, to, from, n), got.call(name, to, from, n)
				if a != b {
					t.Fatalf("%s %d %d %d: %s; metered: %s", name, to, from, n, a, b)
				}
				if a != "[]" {
					traps++
				} else if a, b := plain.memory(), got.memory(); a != b {
					t.Fatalf("%s %d %d %d: the memories differ", name, to, from, n)
				}
			}
		}
	}
	t.Logf("%d calls, %d traps", calls, traps)
}
