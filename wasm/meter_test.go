package wasm_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

var i64 = byte(wasmtest.I64)

// recursion returns a module whose run calls itself as often as the first parameter says.
func recursion(after ...byte) *wasmtest.Module {
	return guest(wasmtest.Code(
		wasmtest.Local(0), 0x45, 0x04, 0x40, wasmtest.Const(0), 0x0f, 0x0b,
		wasmtest.Local(0), wasmtest.Const(-1), 0x6a, wasmtest.Const(0), wasmtest.Call(0), wasmtest.Const(1), 0x6a, after))
}

func TestRecursionIsBounded(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	for name, after := range map[string][]byte{"falls out": nil, "returns": {0x0f}, "branches out": {0x0c, 0}} {
		p := newPool(t, r, recursion(after...), wasm.PoolOptions{})
		for range 30 { // were a frame forgotten, the stack would be used up
			if got, err := call(t.Context(), p, "a", 20_000, 0); got != 20_000 || err != nil {
				t.Fatalf("%s: %d, %v", name, got, err)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, err := call(t.Context(), p, "a", 1<<31, 0)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		var trap *wasm.Trap
		if !errors.As(err, &trap) || trap.Kind != wasm.TrapDepth || !strings.Contains(err.Error(), "recursion deeper than 16 MB of stack") {
			t.Fatalf("%s: %v", name, err)
		}
		t.Logf("%s: ended after %v, %d MB allocated", name, took, (after.TotalAlloc-before.TotalAlloc)>>20)
		if got, err := call(t.Context(), p, "a", 100, 0); got != 100 || err != nil {
			t.Fatalf("%s: after the trap: %d, %v", name, got, err)
		}
	}
}

// TestStackIsGivenBackOnEachWayOut calls a function with three results that leaves by a branch table, a conditional
// branch, a return within blocks, and its end.
func TestStackIsGivenBackOnEachWayOut(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	three := wasmtest.Func{Params: []byte{wasmtest.I32}, Results: []byte{wasmtest.I32, i64, wasmtest.I32}}
	out := wasmtest.Code(wasmtest.Const(1), 0x42, 2, wasmtest.Const(3))
	m := guest(wasmtest.Code(
		0x03, 0x40, // again and again
		wasmtest.Local(0), wasmtest.Const(3), 0x71, wasmtest.Call(1), 0x21, 2, 0x1a, 0x21, 3,
		wasmtest.Local(0), wasmtest.Const(-1), 0x6a, 0x22, 0, 0x0d, 0, 0x0b,
		wasmtest.Local(2), wasmtest.Local(3), 0x6a))
	m.Functions = append(m.Functions,
		wasmtest.Function{Type: three, Code: wasmtest.Code(
			0x02, 0x40, 0x02, 0x40, wasmtest.Call(2),
			out, wasmtest.Local(0), 0x0e, 3, 2, 2, 2, 2, 0x0b, 0x0b, 0x00)},
		wasmtest.Function{Type: none, Code: wasmtest.Code(0x01)})
	m.Functions[1].Code = wasmtest.Code(
		wasmtest.Call(2),                                         // so that it counts its frame
		out, wasmtest.Local(0), wasmtest.Const(1), 0x46, 0x0d, 0, // br_if out of the function
		0x1a, 0x1a, 0x1a,
		0x02, 0x40, wasmtest.Local(0), wasmtest.Const(2), 0x46, 0x0d, 0, // 2: goes on behind
		0x02, 0x40, out, wasmtest.Local(0), wasmtest.Const(3), 0x46, 0x04, 0x40, out, 0x0f, 0x0b, // 3: returns from within
		wasmtest.Local(0), 0x0e, 1, 2, 2, 0x0b, 0x0b, // 0: branch table
		out)
	p := newPool(t, r, m, wasm.PoolOptions{})
	if got, err := call(t.Context(), p, "a", 1_000_000, 0); got != 4 || err != nil {
		t.Fatalf("%d, %v", got, err)
	}
}

// TestDeadlineIsKept: an endless loop ends soon after its deadline, with the functions that it was in.
func TestDeadlineIsKept(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	for _, c := range []struct {
		name string
		code []byte
	}{
		{"empty loop", wasmtest.Code(wasmtest.Loop(), 0x00)},
		{"memory.fill", wasmtest.Code(0x03, 0x40, wasmtest.Const(0), wasmtest.Const(7), wasmtest.Const(32<<20), 0xfc, 11, 0, 0x0c, 0, 0x0b, 0x00)},
		{"memory.copy", wasmtest.Code(0x03, 0x40, wasmtest.Const(1), wasmtest.Const(0), wasmtest.Const(32<<20-1), 0xfc, 10, 0, 0, 0x0c, 0, 0x0b, 0x00)},
		{"memory.grow", wasmtest.Code(0x03, 0x40, wasmtest.Const(1), 0x40, 0, 0x1a, 0x0c, 0, 0x0b, 0x00)},
		{"division", wasmtest.Code(0x03, 0x40, wasmtest.Const(1), wasmtest.Const(3), 0x6d, 0x1a, 0x0c, 0, 0x0b, 0x00)},
	} {
		m := guest(c.code)
		m.Pages = []uint32{512}
		p := wasm.NewPool(compile(t, r, m.Bytes(), 64<<20), wasm.PoolOptions{Entries: []string{"run"}})
		late := time.Hour
		for range 5 {
			in, err := p.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(50 * time.Millisecond)
			_, err = in.Call(lazyContext{t.Context(), deadline}, 0)
			late = min(late, time.Since(deadline))
			p.Release(in) // frees up to 64 MB
			var trap *wasm.Trap
			if !errors.As(err, &trap) || trap.Kind != wasm.TrapDeadline || !errors.Is(err, context.DeadlineExceeded) ||
				!slices.ContainsFunc(trap.Functions, func(f string) bool { return strings.Contains(f, "$0") }) {
				t.Fatalf("%s: %#v", c.name, err)
			}
		}
		t.Logf("%-12s ended %v after its deadline of 50 ms, the best of 5", c.name, late)
		if late < 0 || late > 20*time.Millisecond {
			t.Errorf("%s: ended %v after its deadline", c.name, late)
		}
		_ = p.Close()
	}
}

// TestCollectionDoesNotWaitForGuests: four guests in endless loops hold nothing up.
func TestCollectionDoesNotWaitForGuests(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	p := newPool(t, r, guest(wasmtest.Code(wasmtest.Loop(), 0x00)), wasm.PoolOptions{Running: 4})
	ctx, cancel := context.WithCancel(t.Context())
	var guests sync.WaitGroup
	for range 4 {
		guests.Go(func() {
			if _, err := call(ctx, p, "a", 0, 0); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	var took []time.Duration
	for range 20 {
		began := time.Now()
		runtime.GC()
		took = append(took, time.Since(began))
		time.Sleep(time.Millisecond)
	}
	cancel()
	began := time.Now()
	guests.Wait()
	slices.Sort(took)
	t.Logf("runtime.GC while four guests loop: median %v, most %v; all guests ended %v after the cancel", took[10], took[19], time.Since(began))
	if took[10] > 500*time.Millisecond {
		t.Errorf("a collection takes %v", took[10])
	}
}

func TestHostFunctionsDoNotOutrunTheDeadline(t *testing.T) {
	calls := 0
	r := newRuntime(t, &hooks{note: func(*wasm.Instance, uint32) { calls++; time.Sleep(time.Millisecond) }}, wasm.Options{})
	m := withImports(guest(wasmtest.Code(0x03, 0x40, wasmtest.Const(1), wasmtest.Call(0), 0x0c, 0, 0x0b, 0x00)))
	p := newPool(t, r, m, wasm.PoolOptions{})
	began := time.Now()
	if _, err := call(lazyContext{t.Context(), began.Add(20 * time.Millisecond)}, p, "a", 0, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if calls > 40 {
		t.Fatalf("%d calls of a millisecond in %v", calls, time.Since(began))
	}
}

// TestTrapsNameTheAuthorsFunctions: with names, by them; without, by the numbers that the author's tools show.
func TestTrapsNameTheAuthorsFunctions(t *testing.T) {
	r := newRuntime(t, &hooks{}, wasm.Options{})
	m := withImports(guest(wasmtest.Code(wasmtest.Call(4), wasmtest.Const(0))))
	m.Functions = append(m.Functions, wasmtest.Function{Type: none, Code: wasmtest.Code(0x00)})
	for _, c := range []struct {
		names []byte
		want  []string
	}{
		{nil, []string{"$4", "$3"}},
		{[]byte("\x00\x01\x00\x01\x0c\x02\x03\x03run\x04\x04boom"), []string{"boom", "run"}},
		{[]byte("\x01\x0c\x02\x04\x04boom\x03\x03run"), []string{"$4", "$3"}}, // out of order: none
		{[]byte("\x01\x0c\x02\x03\x03run\x04\x04bo"), []string{"$4", "$3"}},   // cut off
	} {
		m.Custom = map[string][]byte{}
		if c.names != nil {
			m.Custom["name"] = c.names
		}
		p := newPool(t, r, m, wasm.PoolOptions{})
		_, err := call(t.Context(), p, "a", 0, 0)
		var trap *wasm.Trap
		if !errors.As(err, &trap) || !slices.Equal(trap.Functions, c.want) {
			t.Errorf("%q: %v %q", c.names, err, trap.Functions)
		}
	}
}

// TestMeterTouchesNothingThatTheGuestNames: a module may not name what Meter adds.
func TestVerifyRefusesWhatMeterAdds(t *testing.T) {
	zero := wasmtest.Const(0)
	for _, c := range []struct {
		name, want string
		code       []byte
	}{
		{"the fuel", "the global 1 is named; there are 1", wasmtest.Code(0x42, 0, 0x24, 1, zero)},
		{"a helper", "the function 1 is named; there are 1", wasmtest.Code(zero, wasmtest.Call(1), zero)},
		{"an added local", "the local 4 is named; there are 4", wasmtest.Code(0x20, 4, 0x1a, zero)},
		{"the block around the body", "the label 1 is named; there are 1", wasmtest.Code(zero, 0x0c, 1)},
		{"the same in a table", "the label 2 is named; there are 2", wasmtest.Code(zero, 0x02, 0x40, zero, 0x0e, 1, 0, 2, 0x0b)},
		{"an added type", "the type 1 is named; there are 1", wasmtest.Code(zero, 0x11, 1, 0)},
		{"an added type of a block", "the type 1 is named; there are 1", wasmtest.Code(zero, 0x02, 1, 0x0b)},
		{"a reference", "the function 1 is named; there are 1", wasmtest.Code(0xd2, 1, 0x1a, zero)},
	} {
		m := guest(c.code)
		m.Globals, m.Table = []int32{0}, []uint32{1}
		if _, err := wasm.Verify(m.Bytes(), testRules()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	m := guest(zero)
	m.Globals = []int32{0}
	m.Exports = append(m.Exports, wasmtest.Export{Name: "fuel", Kind: 3, Index: 1})
	if _, err := wasm.Verify(m.Bytes(), testRules()); err == nil || !strings.Contains(err.Error(), "the global 1 is named") {
		t.Errorf("an exported global: %v", err)
	}
	module, function := wasm.MeterImport()
	m = guest(zero)
	m.Imports = []wasmtest.Import{{Module: module, Name: function, Type: wasmtest.Func{Params: []byte{wasmtest.I32}, Results: []byte{i64}}}}
	m.Exports[0].Index = 1
	rules := testRules()
	rules.Imports[module] = map[string]wasm.ImportRule{function: {Signature: wasm.Signature{Params: []wasm.ValueType{wasm.I32}, Results: []wasm.ValueType{wasm.I64}}}}
	v, err := wasm.Verify(m.Bytes(), rules)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = wasm.Meter(v); err == nil || !strings.Contains(err.Error(), "the host's own") {
		t.Errorf("an import of the meter: %v", err)
	}
}
