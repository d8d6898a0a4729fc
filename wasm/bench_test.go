package wasm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// BenchmarkMetered compares metered guests, run by this package, with the same guests as they are in bare wazero, without any
// deadline: a tight loop, and a JSON request of 200 bytes. The two take turns; of each the best turn counts.
func BenchmarkMetered(b *testing.B) {
	for _, name := range []string{"C", "Rust", "Go", "AssemblyScript"} {
		b.Run(name, func(b *testing.B) {
			file := corpus()[name](b)
			plain := newBare(b, file, 0)
			r := newRuntime(b, &hooks{}, wasm.Options{})
			m := compileAny(b, r, file, 64<<20)
			p := wasm.NewPool(m, wasm.PoolOptions{Entries: []string{"tight", "handle", "alloc"}})
			defer func() { _ = p.Close() }()
			in, err := p.Acquire(b.Context(), "a")
			if err != nil {
				b.Fatal(err)
			}
			defer p.Release(in)
			ptr, err := in.Call(b.Context(), 2, uint64(len(request)))
			if err != nil || !in.Write(uint32(ptr), []byte(request)) {
				b.Fatal(err)
			}
			plain.handle(b)
			plainPtr, err := plain.mod.ExportedFunction("alloc").Call(b.Context(), uint64(len(request)))
			if err != nil || !plain.mod.Memory().Write(uint32(plainPtr[0]), []byte(request)) {
				b.Fatal(err)
			}
			tight, handle := plain.mod.ExportedFunction("tight"), plain.mod.ExportedFunction("handle")
			var stack [2]uint64
			direct := func(fn api.Function, args ...uint64) {
				copy(stack[:], args)
				if err := fn.CallWithStack(context.Background(), stack[:]); err != nil {
					b.Fatal(err)
				}
			}
			ctx := lazyContext{context.Background(), time.Now().Add(time.Hour)}
			ours := func(entry int, args ...uint64) {
				if _, err := in.Call(ctx, entry, args...); err != nil {
					b.Fatal(err)
				}
			}
			const turns = 1_000_000
			duel(b, name+": tight loop, a turn", "ns", 1.4, 1, turns,
				func() { ours(0, turns) }, func() { direct(tight, turns) })
			duel(b, name+": 200 B of JSON", "µs", 1.6, 200, 1000,
				func() { ours(1, ptr, uint64(len(request))) }, func() { direct(handle, plainPtr[0], uint64(len(request))) })
		})
	}
}

// BenchmarkMeteredStop is how long after its deadline an endless loop ends.
func BenchmarkMeteredStop(b *testing.B) {
	const tries = 41
	r := newRuntime(b, &hooks{}, wasm.Options{})
	p := newPool(b, r, guest(wasmtest.Code(wasmtest.Loop(), 0x00)), wasm.PoolOptions{})
	var late []time.Duration
	for range tries {
		deadline := time.Now().Add(50 * time.Millisecond)
		if _, err := call(lazyContext{b.Context(), deadline}, p, "a", 0, 0); !errors.Is(err, context.DeadlineExceeded) {
			b.Fatal(err)
		}
		late = append(late, time.Since(deadline))
	}
	slices.Sort(late)
	median := late[tries/2]
	line, err := json.Marshal(map[string]any{"name": "endless loop, ended after its deadline", "unit": "ms",
		"ours": float64(median.Microseconds()) / 1000, "goal": "at most 2 ms", "met": median <= 2*time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(late[tries-1].Microseconds()), "most-µs")
	fmt.Printf("\nBENCH %s\n", line)
}

// duel prints the best time of some calls of each, per unit.
func duel(b *testing.B, name, unit string, goal float64, calls int, per float64, ours, floor func()) {
	best := [2]time.Duration{time.Hour, time.Hour}
	for range 60 {
		for k, fn := range []func(){ours, floor} {
			began := time.Now()
			for range calls {
				fn()
			}
			best[k] = min(best[k], time.Since(began))
		}
	}
	figure := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(calls) / per }
	ratio := figure(best[0]) / figure(best[1])
	line, err := json.Marshal(map[string]any{"name": "metered " + name, "unit": unit, "ours": figure(best[0]),
		"floor": figure(best[1]), "ratio": ratio, "goal": fmt.Sprintf("at most %.1f times the floor", goal), "met": ratio <= goal})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	fmt.Printf("\nBENCH %s\n", line)
}

// compileAny is compile for modules that need not be of the tests' rules.
func compileAny(tb testing.TB, r *wasm.Runtime, file []byte, memory int64) *wasm.Module {
	tb.Helper()
	v, err := wasm.Verify(file, anyImports())
	if err != nil {
		tb.Fatal(err)
	}
	metered, err := wasm.Meter(v)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := r.Compile(context.Background(), metered, memory)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close() })
	return m
}

// BenchmarkFresh is what it takes to have a call served by a fresh instance: it is made, called, and thrown away. The
// median counts.
func BenchmarkFresh(b *testing.B) {
	const tries = 501
	for _, c := range []struct {
		name, entry string
		goal        time.Duration
	}{{"C", "recurse", 50 * time.Microsecond}, {"Rust", "recurse", 50 * time.Microsecond}, {"Go", "count", 300 * time.Microsecond}} {
		b.Run(c.name, func(b *testing.B) {
			p := guestPool(b, guestRuntime(b, wasm.Options{}), c.name, wasm.PoolOptions{Entries: []string{c.entry}, RecycleCalls: 1})
			var took []time.Duration
			for range tries {
				began := time.Now()
				if _, err := call(b.Context(), p, "a", 0, 0); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			median := took[tries/2]
			line, err := json.Marshal(map[string]any{"name": "fresh instance: " + c.name, "unit": "ms",
				"ours": float64(median.Nanoseconds()) / 1e6, "goal": fmt.Sprintf("at most %.2f ms", c.goal.Seconds()*1000), "met": median <= c.goal})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(0, "ns/op")
			fmt.Printf("\nBENCH %s\n", line)
		})
	}
}
