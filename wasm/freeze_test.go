package wasm_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tetratelabs/wazero"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// cacheDir holds compiled code for all tests of this user.
func cacheDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("pollux-test-wasm-%d", os.Getuid()))
}

// guestRuntime is newRuntime with that cache.
func guestRuntime(tb testing.TB, o wasm.Options) *wasm.Runtime {
	tb.Helper()
	o.CacheDir = cacheDir()
	return newRuntime(tb, &hooks{}, o)
}

// guestPool runs a guest of the corpus; the entries of calls are numbered as given.
func guestPool(tb testing.TB, r *wasm.Runtime, name string, o wasm.PoolOptions) *wasm.Pool {
	tb.Helper()
	p := wasm.NewPool(compileAny(tb, r, corpus()[name](tb), 64<<20), o)
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// TestCopiesDoTheSame: guests that begin as copies of an initialised one answer like one that was initialised itself, on a
// fresh copy for each call, and after many calls.
func TestCopiesDoTheSame(t *testing.T) {
	for _, name := range []string{"C", "Rust", "Go", "AssemblyScript"} {
		t.Run(name, func(t *testing.T) {
			set := metrics.NewSet()
			r := guestRuntime(t, wasm.Options{Metrics: set})
			entries := []string{"mix", "recurse"}
			m := compileAny(t, r, corpus()[name](t), 64<<20)
			fresh := wasm.NewPool(m, wasm.PoolOptions{Entries: entries, RecycleCalls: 1})
			kept := wasm.NewPool(m, wasm.PoolOptions{Entries: entries})
			defer func() { _ = errors.Join(fresh.Close(), kept.Close()) }()
			for seed := range uint64(4) {
				plain := newBare(t, corpus()[name](t), 0)
				want := plain.call("mix", seed, 40)
				plain.close()
				for what, p := range map[string]*wasm.Pool{"a fresh copy": fresh, "a copy": kept} {
					got, err := call(t.Context(), p, "a", seed, 40)
					if answer := fmt.Sprint([]uint64{got}); err == nil && answer != want || (err != nil) != (want[0] != '[') {
						t.Fatalf("mix %d: %s gives %s, %v, want %s", seed, what, answer, err, want)
					}
				}
			}
			if n := set.GetOrCreateCounter("pollux_wasm_instances_initialised_total").Get(); n != 2 {
				t.Errorf("%d instances were initialised for two pools", n)
			}
		})
	}
}

// TestCopiesForgetAndDoNotShare: what one copy writes no other one sees.
func TestCopiesForgetAndDoNotShare(t *testing.T) {
	r := guestRuntime(t, wasm.Options{})
	p := guestPool(t, r, "Go", wasm.PoolOptions{Entries: []string{"count"}, RecycleCalls: 3,
		Init: func(ctx context.Context, in *wasm.Instance) error {
			_, err := in.Call(ctx, 0)
			return err
		}})
	for n, want := range []uint64{2, 3, 4, 2, 3, 4, 2} {
		if got, err := call(t.Context(), p, "a", 0, 0); err != nil || got != want {
			t.Fatalf("call %d: %d, %v; want %d", n, got, err, want)
		}
	}
	if got, err := call(t.Context(), p, "b", 0, 0); err != nil || got != 2 {
		t.Fatalf("another tenant: %d, %v", got, err)
	}
}

// TestCopiesDrawTheirOwnNumbers: a Go guest's generator is seeded as its runtime starts, before the copies part.
func TestCopiesDrawTheirOwnNumbers(t *testing.T) {
	m := compileAny(t, guestRuntime(t, wasm.Options{}), corpus()["Go"](t), 64<<20)
	for _, drawn := range []uint64{0, 1, 30, 100, 125, 130} { // in Init: at each stage of the generator's block
		p := wasm.NewPool(m, wasm.PoolOptions{Entries: []string{"draws"}, RecycleCalls: 4,
			Init: func(ctx context.Context, in *wasm.Instance) error {
				_, err := in.Call(ctx, 0, 0, drawn)
				return err
			}})
		seen := map[uint64]bool{}
		const calls = 200
		for n := range uint64(calls) {
			got, err := call(t.Context(), p, "a", n/calls*2, n%7)
			if err != nil {
				t.Fatal(err)
			}
			seen[got] = true
		}
		_ = p.Close()
		if len(seen) != calls {
			t.Errorf("after %d numbers drawn before the copies: %d different ones of %d", drawn, len(seen), calls)
		}
	}
}

// TestCopiesTakeLittleMemory: what the budget counts are the pages that each copy wrote to.
func TestCopiesTakeLittleMemory(t *testing.T) {
	const copies = 30
	r := guestRuntime(t, wasm.Options{})
	for name, most := range map[string]int64{"C": 64 << 10, "Rust": 96 << 10, "Go": 300 << 10} {
		p := guestPool(t, r, name, wasm.PoolOptions{Entries: []string{"recurse"}, Running: copies, RecycleCalls: 2})
		for range 2 { // makes the image, and leaves no copy
			if _, err := call(t.Context(), p, "a", 10, 0); err != nil {
				t.Fatal(err)
			}
		}
		before := r.GuestBytes()
		var out []*wasm.Instance
		for range copies {
			in, err := p.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Call(t.Context(), 0, 10); err != nil {
				t.Fatal(err)
			}
			out = append(out, in)
		}
		size := out[0].MemoryBytes()
		for _, in := range out {
			p.Release(in)
		}
		each := (r.GuestBytes() - before) / copies
		t.Logf("%s: the image takes %d KiB; each copy has %d, of which it takes %d", name, before>>10, size>>10, each>>10)
		if each > most || each <= 0 {
			t.Errorf("%s: %d bytes for each of %d copies", name, each, copies)
		}
		_ = p.Close()
	}
}

// TestTouchedPagesAreHeldToTheBudget: copies of an image that is large and empty are cheap until they write to it. Then
// those are ended that the budget has nothing left for.
func TestTouchedPagesAreHeldToTheBudget(t *testing.T) {
	const budget, callers = 24 << 20, 4
	r := newRuntime(t, &hooks{}, wasm.Options{MemoryBudget: budget})
	// loop: fill 16 MiB; again
	m := guest(wasmtest.Code(0x03, 0x40, wasmtest.Const(0), wasmtest.Const(7), wasmtest.Const(16<<20), 0xfc, 11, 0, 0x0c, 0, 0x0b, 0x00))
	m.Pages = []uint32{256}
	p := wasm.NewPool(compile(t, r, m.Bytes(), 32<<20), wasm.PoolOptions{Entries: []string{"run"}, Running: callers})
	defer func() { _ = p.Close() }()
	var all sync.WaitGroup
	var ended, late atomic.Int64
	most := int64(0)
	for range callers {
		all.Go(func() {
			_, err := call(lazyContext{t.Context(), time.Now().Add(time.Second)}, p, "a", 0, 0)
			switch {
			case errors.Is(err, wasm.ErrMemory):
				ended.Add(1)
			case errors.Is(err, context.DeadlineExceeded):
				late.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(time.Millisecond):
			most = max(most, r.GuestBytes())
		}
	}
	t.Logf("%d calls were ended for want of memory, %d at their deadline; at most %d KiB were counted", ended.Load(), late.Load(), most>>10)
	if ended.Load() == 0 || most > budget {
		t.Error("the budget does not hold")
	}
}

// TestMappingsAreBounded: a system allows a process so many mappings; guests leave the rest of the process a quarter.
func TestMappingsAreBounded(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{MemoryMappings: 7})
	p := newPool(t, r, counting(), wasm.PoolOptions{Running: 10})
	var out []*wasm.Instance
	for range 3 {
		in, err := p.Acquire(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, in)
	}
	if _, err := p.Acquire(t.Context(), "a"); err == nil {
		t.Fatal("a fourth instance of two mappings was made with seven")
	}
	for _, in := range out {
		p.Release(in)
	}
	if got, err := call(t.Context(), p, "b", 0, 0); err != nil || got != 1 { // takes the idle ones'
		t.Fatalf("after the release: %d, %v", got, err)
	}
}

// TestWhatChangesTablesIsNotCopied: such a module's instances are initialised one by one, and work.
func TestWhatChangesTablesIsNotCopied(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	m := counting()
	m.Table = []uint32{4, 4}
	m.Data = []byte("data")
	// table.set 0 to null, then count
	m.Functions[0].Code = wasmtest.Code(wasmtest.Const(0), 0xd0, 0x70, 0x26, 0, m.Functions[0].Code)
	inits := 0
	p := newPool(t, r, m, wasm.PoolOptions{RecycleCalls: 2, Init: func(context.Context, *wasm.Instance) error {
		inits++
		return nil
	}})
	for n, want := range []uint64{1, 2, 1, 2} {
		if got, err := call(t.Context(), p, "a", 0, 0); err != nil || got != want {
			t.Fatalf("call %d: %d, %v", n, got, err)
		}
	}
	if inits != 2 {
		t.Errorf("initialised %d times", inits)
	}
}

// TestManyAskForTheFirstInstance: it is initialised once, however many ask for it.
func TestManyAskForTheFirstInstance(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	var mu sync.Mutex
	inits := 0
	p := newPool(t, r, counting(), wasm.PoolOptions{Running: 8, Init: func(context.Context, *wasm.Instance) error {
		mu.Lock()
		defer mu.Unlock()
		inits++
		time.Sleep(10 * time.Millisecond)
		return nil
	}})
	var done sync.WaitGroup
	for w := range 16 {
		done.Go(func() {
			if _, err := call(t.Context(), p, fmt.Sprint(w), 0, 0); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if inits != 1 {
		t.Errorf("initialised %d times", inits)
	}
}

// TestRandomCopies: a random program whose first call was made before the copies were taken goes on in each of them as it
// does in the original, to the last byte of its memory.
func TestRandomCopies(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	w := newWorld(t, wazero.NewCompilationCache())
	r := newRuntime(t, &hooks{}, wasm.Options{})
	went := 0
	for n := range 150 {
		data := make([]byte, 50+random.IntN(400))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		m := wasmtest.Random(data)
		m.Data = data
		file := m.Bytes()
		plain := w.start(t, file)
		if answer := plain.call("run", 3, 4); answer[0] != '[' {
			plain.close()
			continue // crashes before it could be copied
		}
		want, memory := plain.call("run", 77, 5), plain.memory()
		plain.close()
		p := wasm.NewPool(compileAny(t, r, file, 64<<20), wasm.PoolOptions{Entries: []string{"run"}, RecycleCalls: 1,
			Init: func(ctx context.Context, in *wasm.Instance) error {
				_, err := in.Call(ctx, 0, 3, 4)
				return err
			}})
		for range 2 {
			in, err := p.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			got, err := in.Call(t.Context(), 0, 77, 5)
			all, _ := in.Read(0, uint32(in.MemoryBytes()))
			if answer := fmt.Sprint([]uint64{got}); (err == nil) != (want[0] == '[') || err == nil && answer != want {
				t.Fatalf("program %d, %x: a copy gives %s, %v, want %s", n, data, answer, err, want)
			}
			if digest := fmt.Sprintf("%d bytes, %x", len(all), sha256.Sum256(all)); digest != memory {
				t.Fatalf("program %d, %x: a copy's memory is %s, want %s", n, data, digest, memory)
			}
			p.Release(in)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		went++
	}
	if t.Logf("%d programs", went); went < 30 {
		t.Error("the programs are of little use")
	}
}
