package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

// hooks are what the host's functions do in a test.
type hooks struct {
	note  func(in *wasm.Instance, v uint32)
	block func(in *wasm.Instance)
}

func newRuntime(tb testing.TB, h *hooks, o wasm.Options) *wasm.Runtime {
	tb.Helper()
	i32 := wasm.Signature{Params: []wasm.ValueType{wasm.I32}}
	o.Hosts = []wasm.HostModule{{Name: "host", Functions: []wasm.HostFunction{
		{Name: "note", Signature: i32, Call: func(in *wasm.Instance, s []uint64) { h.note(in, uint32(s[0])) }},
		{Name: "block", Signature: i32, Call: func(in *wasm.Instance, _ []uint64) { h.block(in) }},
		{Name: "boom", Call: func(*wasm.Instance, []uint64) { panic(errors.New("the host says no")) }},
	}}}
	r, err := wasm.NewRuntime(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
		if n := r.GuestBytes(); n != 0 {
			tb.Errorf("%d bytes of guests' memory are left", n)
		}
	})
	return r
}

func compile(tb testing.TB, r *wasm.Runtime, file []byte, memory int64) *wasm.Module {
	tb.Helper()
	v, err := wasm.Verify(file, testRules())
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

func newPool(tb testing.TB, r *wasm.Runtime, m *wasmtest.Module, o wasm.PoolOptions) *wasm.Pool {
	tb.Helper()
	o.Entries = []string{"run"}
	p := wasm.NewPool(compile(tb, r, m.Bytes(), 4<<20), o)
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

// call makes one call through the pool.
func call(ctx context.Context, p *wasm.Pool, tenant string, a, b uint64) (uint64, error) {
	in, err := p.Acquire(ctx, tenant)
	if err != nil {
		return 0, err
	}
	defer p.Release(in)
	return in.Call(ctx, 0, a, b)
}

// counting returns a module that counts its calls in a global.
func counting() *wasmtest.Module {
	m := guest(wasmtest.Code(0x23, 0, wasmtest.Const(1), 0x6a, 0x24, 0, 0x23, 0))
	m.Globals = []int32{0}
	return m
}

// withImports puts the host's three functions in front: note 0, block 1, boom 2.
func withImports(m *wasmtest.Module) *wasmtest.Module {
	i32 := wasmtest.Func{Params: []byte{wasmtest.I32}}
	m.Imports = []wasmtest.Import{{Module: "host", Name: "note", Type: i32}, {Module: "host", Name: "block", Type: i32},
		{Module: "host", Name: "boom", Type: none}}
	m.Exports[0].Index = 3
	return m
}

func TestPoolReusesAnInstanceForItsTenantOnly(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, counting(), wasm.PoolOptions{})
	ctx := t.Context()
	for _, c := range []struct {
		tenant string
		want   uint64
	}{{"a", 1}, {"a", 2}, {"b", 1}, {"a", 3}, {"b", 2}} {
		if got, err := call(ctx, p, c.tenant, 0, 0); err != nil || got != c.want {
			t.Fatalf("tenant %s: got %d, %v, want %d", c.tenant, got, err, c.want)
		}
	}
}

func TestInitPreparesEachInstance(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, counting(), wasm.PoolOptions{RecycleCalls: 2, Init: func(ctx context.Context, in *wasm.Instance) error {
		for range 10 {
			if _, err := in.Call(ctx, 0); err != nil {
				return err
			}
		}
		return nil
	}})
	for n, want := range []uint64{11, 12, 11, 12} {
		if got, err := call(t.Context(), p, "a", 0, 0); err != nil || got != want {
			t.Fatalf("call %d: got %d, %v, want %d", n, got, err, want)
		}
	}
	failing := newPool(t, r, counting(), wasm.PoolOptions{Init: func(context.Context, *wasm.Instance) error { return errors.New("not today") }})
	if _, err := failing.Acquire(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Fatalf("an Init that fails: %v", err)
	}
	if live, _ := failing.Live(); live != 0 {
		t.Fatalf("%d instances live on", live)
	}
}

func TestInstanceServesSoManyCalls(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, counting(), wasm.PoolOptions{RecycleCalls: 3})
	for n, want := range []uint64{1, 2, 3, 1, 2, 3, 1} {
		if got, err := call(t.Context(), p, "a", 0, 0); err != nil || got != want {
			t.Fatalf("call %d: got %d, %v, want %d", n, got, err, want)
		}
	}
}

func TestDeadlineEndsAnEndlessLoop(t *testing.T) {
	set := metrics.NewSet()
	r := newRuntime(t, &hooks{}, wasm.Options{Metrics: set})
	p := newPool(t, r, guest(wasmtest.Code(wasmtest.Loop(), 0x00)), wasm.PoolOptions{})
	ends := func(name string, body func(t *testing.T)) {
		before := set.GetOrCreateCounter("pollux_wasm_calls_stopped_total").Get()
		t.Run(name, func(t *testing.T) {
			body(t)
			if live, _ := p.Live(); live != 0 {
				t.Fatalf("%d instances live on", live)
			}
			if n := set.GetOrCreateCounter("pollux_wasm_calls_stopped_total").Get() - before; n != 1 {
				t.Fatalf("%d calls counted as stopped", n)
			}
		})
	}
	ends("deadline", func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := call(ctx, p, "a", 0, 0)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(start); took < 50*time.Millisecond || took > 20*time.Second {
			t.Fatalf("stopped after %s", took)
		}
	})
	ends("deadline without a timer", func(t *testing.T) {
		if _, err := call(lazyContext{t.Context(), time.Now().Add(30 * time.Millisecond)}, p, "a", 0, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
	ends("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		if _, err := call(ctx, p, "a", 0, 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestWhoKeepsBeingStoppedRests: a tenant whose calls are stopped again and again gets a small share of a processor, and
// another one of the same module does not pay for it.
func TestWhoKeepsBeingStoppedRests(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, guest(wasmtest.Code(wasmtest.Loop(), 0x00)), wasm.PoolOptions{})
	share := func(tenant string) float64 {
		worked, began := processor(), time.Now()
		if _, err := call(lazyContext{t.Context(), began.Add(40 * time.Millisecond)}, p, tenant, 0, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return float64(processor()-worked) / float64(time.Since(began))
	}
	first := share("a")
	share("a")
	least := 1.0
	for range 5 {
		least = min(least, share("a"))
	}
	other := share("b")
	t.Logf("share of a processor: at first %.2f, later %.2f; another tenant %.2f", first, least, other)
	if least > 0.6 {
		t.Errorf("a tenant that was stopped twice computes for %.2f of its time", least)
	}
}

// TestWhoKeepsBeingStoppedLeavesPlaces: a tenant whose calls do not end leaves others their places in the pool, however many
// it makes.
func TestWhoKeepsBeingStoppedLeavesPlaces(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	m := counting()
	m.Functions[0].Code = wasmtest.Code(wasmtest.Local(0), 0x04, 0x40, wasmtest.Loop(), 0x0b, m.Functions[0].Code)
	p := newPool(t, r, m, wasm.PoolOptions{Running: 4})
	for range 2 {
		if _, err := call(lazyContext{t.Context(), time.Now().Add(5 * time.Millisecond)}, p, "a", 1, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var looping sync.WaitGroup
	for range 20 {
		looping.Go(func() {
			if _, err := call(ctx, p, "a", 1, 0); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	deadline := time.Now().Add(30 * time.Second)
	for live := 0; live < 2; live, _ = p.Live() {
		if time.Now().After(deadline) {
			t.Fatal("the loops do not begin")
		}
		time.Sleep(time.Millisecond)
	}
	for want := range uint64(20) {
		if got, err := call(lazyContext{t.Context(), deadline}, p, "b", 0, 0); err != nil || got != want+1 {
			t.Fatalf("another tenant's call: %d, %v", got, err)
		}
	}
	if live, _ := p.Live(); live > 3 {
		t.Errorf("%d instances live", live)
	}
	cancel()
	looping.Wait()
}

// lazyContext has a deadline that nobody watches.
type lazyContext struct {
	context.Context
	deadline time.Time
}

func (c lazyContext) Deadline() (time.Time, bool) { return c.deadline, true }

func TestInitialisationHasADeadline(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	m := guest(wasmtest.Const(0))
	m.Functions = append(m.Functions, wasmtest.Function{Type: none, Code: wasmtest.Loop()})
	m.Exports = append(m.Exports, wasmtest.Export{Name: "_initialize", Index: 1})
	p := newPool(t, r, m, wasm.PoolOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if live, _ := p.Live(); live != 0 {
		t.Fatalf("%d instances live on", live)
	}
}

func TestTrapsAreNamedAndDiscardTheInstance(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	for _, c := range []struct {
		name, want string
		code       []byte
	}{
		{"unreachable", "unreachable", wasmtest.Code(0x00)},
		{"division", "integer divide by zero", wasmtest.Code(wasmtest.Const(1), wasmtest.Const(0), 0x6d)},
		{"memory", "out of bounds memory access", wasmtest.Code(wasmtest.Const(-4), 0x28, 2, 0)},
		{"host", "the host says no", wasmtest.Code(wasmtest.Call(2), wasmtest.Const(0))},
	} {
		m := withImports(counting())
		count := m.Functions[0].Code
		// traps when the first parameter is 1
		m.Functions[0].Code = wasmtest.Code(wasmtest.Local(0), 0x04, 0x40, c.code, 0x1a, 0x0b, count)
		if c.name == "unreachable" {
			m.Functions[0].Code = wasmtest.Code(wasmtest.Local(0), 0x04, 0x40, c.code, 0x0b, count)
		}
		p := newPool(t, r, m, wasm.PoolOptions{})
		if got, err := call(t.Context(), p, "a", 0, 0); got != 1 || err != nil {
			t.Fatalf("%s: %d, %v", c.name, got, err)
		}
		_, err := call(t.Context(), p, "a", 1, 0)
		var trap *wasm.Trap
		if !errors.As(err, &trap) || !strings.Contains(trap.Reason, c.want) || len(trap.Functions) == 0 {
			t.Fatalf("%s: got %#v, want %q", c.name, err, c.want)
		}
		if got, err := call(t.Context(), p, "a", 0, 0); got != 1 || err != nil {
			t.Fatalf("%s: the instance that trapped was used again: %d, %v", c.name, got, err)
		}
	}
}

func TestMemoryIsCapped(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	// memory.grow by the first parameter
	m := guest(wasmtest.Code(wasmtest.Local(0), 0x40, 0))
	p := newPool(t, r, m, wasm.PoolOptions{}) // 4 MiB: 64 pages; a fresh one past a MiB more than at the start
	for _, c := range []struct{ grow, want uint64 }{{10, 1}, {54, 0xffffffff}, {6, 11}, {47, 17}, {1, 1}} {
		if got, err := call(t.Context(), p, "a", c.grow, 0); err != nil || got != c.want {
			t.Fatalf("grow by %d: got %d, %v, want %d", c.grow, got, err, c.want)
		}
	}
	if n := r.GuestBytes(); n > 2*wasm.PageBytes {
		t.Fatalf("%d bytes are counted", n)
	}
	m.Pages = []uint32{65}
	v, err := wasm.Verify(m.Bytes(), testRules())
	if err != nil {
		t.Fatal(err)
	}
	metered, _ := wasm.Meter(v)
	if _, err = r.Compile(t.Context(), metered, 4<<20); err == nil || !strings.Contains(err.Error(), "its cap is 4194304") {
		t.Fatalf("a module that starts past its cap: %v", err)
	}
}

func TestMemoryBudgetHoldsForAll(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{MemoryBudget: 16 * wasm.PageBytes})
	grow := guest(wasmtest.Code(wasmtest.Local(0), 0x40, 0))
	p, q := newPool(t, r, grow, wasm.PoolOptions{}), newPool(t, r, counting(), wasm.PoolOptions{})
	a, err := p.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { p.Release(a) })
	defer release()
	if got, err := a.Call(t.Context(), 0, 12, 0); got != 1 || err != nil { // beside what each is taken to need
		t.Fatalf("the whole budget: %d, %v", got, err)
	}
	if got, err := a.Call(t.Context(), 0, 1, 0); got != 0xffffffff || err != nil {
		t.Fatalf("past the budget: %d, %v", got, err)
	}
	if _, err := q.Acquire(t.Context(), "a"); !errors.Is(err, wasm.ErrMemory) {
		t.Fatalf("a new instance: %v", err)
	}
	release()
	if got, err := call(t.Context(), q, "a", 0, 0); got != 1 || err != nil { // takes the idle one's memory
		t.Fatalf("after the release: %d, %v", got, err)
	}
}

func TestPoolIsBoundedAndWaits(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, counting(), wasm.PoolOptions{Running: 2, Parked: 1})
	first, err := p.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Acquire(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third: %v", err)
	}
	if _, err := p.Acquire(lazyContext{t.Context(), time.Now().Add(20 * time.Millisecond)}, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third, with a lazy context: %v", err)
	}
	p.Release(first)
	p.Release(second)
	for i := range 40 { // each its own tenant: idle ones make room
		if got, err := call(t.Context(), p, fmt.Sprint("tenant", i), 0, 0); got != 1 || err != nil {
			t.Fatalf("tenant %d: %d, %v", i, got, err)
		}
		if live, _ := p.Live(); live > 3 {
			t.Fatalf("%d instances live", live)
		}
	}
}

func TestParkedCallsLeaveRoomForOthers(t *testing.T) {
	gate := make(chan struct{})
	var parked atomic.Int32
	h := &hooks{block: func(in *wasm.Instance) {
		if err := in.Park(in.Context()); err != nil {
			return
		}
		parked.Add(1)
		<-gate
		in.Unpark(in.Context())
	}}
	r := newRuntime(t, h, wasm.Options{})
	m := withImports(counting())
	count := m.Functions[0].Code
	m.Functions[0].Code = wasmtest.Code(wasmtest.Local(0), 0x04, 0x40, wasmtest.Const(0), wasmtest.Call(1), 0x0b, count)
	p := newPool(t, r, m, wasm.PoolOptions{Running: 1, Parked: 3})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var done sync.WaitGroup
	for range 3 {
		done.Go(func() {
			if _, err := call(ctx, p, "a", 1, 0); err != nil {
				t.Error(err)
			}
		})
	}
	for parked.Load() < 3 {
		time.Sleep(time.Millisecond)
		if ctx.Err() != nil {
			t.Fatal("the calls did not park")
		}
	}
	if _, err := call(ctx, p, "a", 0, 0); err != nil {
		t.Fatalf("a call beside three that wait, with one place: %v", err)
	}
	close(gate)
	done.Wait()
}

func TestManyCallersAtOnce(t *testing.T) {
	var notes atomic.Int64
	h := &hooks{note: func(in *wasm.Instance, v uint32) {
		if in.Data.(*atomic.Int64).Add(1) != 1 || v != 7 {
			panic(errors.New("another call's data"))
		}
		notes.Add(1)
	}}
	r := newRuntime(t, h, wasm.Options{})
	m := withImports(counting())
	m.Functions[0].Code = wasmtest.Code(wasmtest.Local(0), 0x04, 0x40, 0x00, 0x0b, wasmtest.Const(7), wasmtest.Call(0), wasmtest.Const(0))
	p := newPool(t, r, m, wasm.PoolOptions{Running: 4})
	var done sync.WaitGroup
	var traps atomic.Int64
	for w := range 8 {
		done.Go(func() {
			for i := range 200 {
				in, err := p.Acquire(t.Context(), fmt.Sprint(w%3))
				if err != nil {
					t.Error(err)
					return
				}
				in.Data = new(atomic.Int64)
				bad := uint64(0)
				if i%20 == 19 {
					bad = 1
				}
				if _, err := in.Call(t.Context(), 0, bad, 0); err != nil {
					traps.Add(1)
				}
				p.Release(in)
			}
		})
	}
	done.Wait()
	if traps.Load() != 80 || notes.Load() != 8*200-80 {
		t.Fatalf("%d traps, %d notes", traps.Load(), notes.Load())
	}
}

func TestIdleInstancesAreClosed(t *testing.T) {
	t.Parallel() // it waits some seconds
	r := newRuntime(t, &hooks{}, wasm.Options{IdleTimeout: time.Millisecond})
	p := newPool(t, r, counting(), wasm.PoolOptions{})
	if _, err := call(t.Context(), p, "a", 0, 0); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for live := 1; live > 0; live, _ = p.Live() {
		if time.Now().After(deadline) {
			t.Fatal("the idle instance stays")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestClosedPoolRefuses(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, counting(), wasm.PoolOptions{})
	in, err := p.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- p.Close() }()
	for {
		other, err := p.Acquire(t.Context(), "a")
		if errors.Is(err, wasm.ErrClosed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Release(other)
	}
	select {
	case <-closed:
		t.Fatal("closed under a running call")
	default:
	}
	if got, err := in.Call(t.Context(), 0, 0, 0); err != nil || got == 0 {
		t.Fatalf("the running call: %d, %v", got, err)
	}
	p.Release(in)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

func TestCompilationCacheIsPrivate(t *testing.T) {
	dir := t.TempDir() + "/cache"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRuntime(t, &hooks{}, wasm.Options{CacheDir: dir})
	compile(t, r, counting().Bytes(), 1<<20)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("nothing was cached: %v", err)
	}
}

func TestIllTypedModuleDoesNotCompile(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	v, err := wasm.Verify(guest(wasmtest.Code(0x42, 5)).Bytes(), testRules()) // an i64 where an i32 is due
	if err != nil {
		t.Fatal(err)
	}
	metered, _ := wasm.Meter(v)
	_, err = r.Compile(t.Context(), metered, 1<<20)
	var refusal *wasm.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "does not compile") {
		t.Fatalf("got %v", err)
	}
}
