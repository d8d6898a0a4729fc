package drivers_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/wasm"
	"github.com/polluxhq/pollux/wasm/wasmtest"
)

const (
	attackTwins   = 1000
	attackCallers = 4
	attackPause   = time.Millisecond
	attackSpan    = 150 * time.Millisecond // of a round, calm and then attacked
	// Rounds; the median of their ratios counts. Where it is too high after the first ones, more are made.
	attackRounds, attackMost = 3, 9
	// attackLeast: a calm p99 below it counts as this, the slice of a guest that a call may have to wait for.
	attackLeast = 500 * time.Microsecond
	// attackRoom is what the instances that an attack leaves may take more than before.
	attackRoom = 8 << 20
)

// attack is what a hostile driver does, one of Go or a module of the test's, and what is said of it.
type attack struct {
	name     string
	call     drivers.Call
	module   []byte
	sentence string // in the error, one or the other; "refused": what is too much is left out, without an error
}

func attacks() []attack {
	return []attack{
		{"an endless loop", command("spin", "null"), nil, "stopped after"},
		{"takes all memory", command("hog", "null"), nil, "out of memory"},
		{"crashes each time", command("panic", `"to order"`), nil, "panic: to order"},
		{"a recursion, Go's", command("recurse", "1"), nil, "stopped after|memory"},
		{"a recursion", drivers.Call{}, hostile(wasmtest.Code(wasmtest.Local(0), wasmtest.Local(1), wasmtest.Call(1))), "recursion deeper than"},
		{"sleeps", command("sleep", "60000"), nil, "stopped after"},
		{"floods log and events", command("flood", "5000"), nil, "refused"},
		{"prints without end", command("print", `"`+strings.Repeat(`spam\n`, 10_000)+`"`), nil, "refused"},
		// loop: log(0, 1); again
		{"calls the host for ever", drivers.Call{}, hostile(wasmtest.Code(0x03, 0x40, wasmtest.Const(0), wasmtest.Const(1),
			wasmtest.Call(0), 0x1a, 0x0c, 0, 0x0b, 0x00)), "stopped after"},
		// loop: fill the whole memory
		{"fills its memory for ever", drivers.Call{}, hostile(wasmtest.Code(0x03, 0x40, wasmtest.Const(0), wasmtest.Const(1),
			wasmtest.Const(16<<20), 0xfc, 11, 0, 0x0c, 0, 0x0b, 0x00)), "stopped after"},
	}
}

// hostile is a driver whose handler runs the code; function 0 is log, 1 the handler itself.
func hostile(code []byte) []byte {
	entry := wasmtest.Func{Params: []byte{wasmtest.I32, wasmtest.I32}, Results: []byte{wasmtest.I32}}
	m := &wasmtest.Module{Functions: []wasmtest.Function{{Type: entry, Code: code}}, Pages: []uint32{256},
		Imports: []wasmtest.Import{{Module: "twin1", Name: "log", Type: entry}},
		Exports: []wasmtest.Export{{Name: "drv_handle", Index: 1}, {Name: "memory", Kind: 2}},
		Custom:  map[string][]byte{"driver.manifest": fmt.Appendf(nil, minial, `"log"`)}}
	return m.Bytes()
}

// TestAttacks has two hostile calls at a time beside 1,000 healthy twins of another driver, and prints what became of each
// attack. The attacker is stopped or refused with a sentence; the healthy twins' p99 stays within twice what it was; the
// memory comes back.
func TestAttacks(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t), MemoryBudget: 256 << 20})
	healthy := load(t, s, drivertest.Echo(t))
	wild := load(t, s, drivertest.Build(t, filepath.Join("testdata", "wild")))
	healthyP99(t, healthy, attackSpan)
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			r := wild
			if a.module != nil {
				r = load(t, s, a.module)
			}
			a.stopped(t, r)
			before := s.GuestBytes()
			var ratios []float64
			for round := 1; ; round++ {
				calm := healthyP99(t, healthy, attackSpan)
				attacked, attacks := a.during(t, r, func() time.Duration { return healthyP99(t, healthy, attackSpan) })
				ratio := float64(attacked) / float64(max(calm, attackLeast))
				t.Logf("healthy twins' p99: calm %v, beside %d attacks %v: %.1f times", calm.Round(time.Microsecond), attacks, attacked.Round(time.Microsecond),
					float64(attacked)/float64(calm))
				ratios = append(ratios, ratio)
				slices.Sort(ratios)
				if round < attackRounds || round%2 == 0 {
					continue
				}
				if ratios[round/2] <= 2 {
					break
				} else if round == attackMost {
					t.Errorf("the healthy twins' p99 is %.1f times what it was, the median of %.1f", ratios[round/2], ratios)
					break
				}
			}
			if after := s.GuestBytes(); after > before+attackRoom {
				t.Errorf("the guests' memory stays at %d KiB; it was %d", after>>10, before>>10)
			}
		})
	}
}

// stopped makes one attack and looks at what is said of it.
func (a *attack) stopped(t *testing.T, r drivers.Runner) {
	t.Helper()
	h := &host{}
	began := time.Now()
	e, err := a.once(t, r, h, 500*time.Millisecond) // the first one also makes what instances are copies of
	said := fmt.Sprint(err)
	var trap *wasm.Trap
	switch {
	case a.sentence == "refused":
		if err != nil || len(e.Events) > 64 || len(h.logs) > 64 {
			t.Errorf("got %v, %d events, %d lines", err, len(e.Events), len(h.logs))
		}
		said = fmt.Sprintf("%d events and %d lines of its log were kept", len(e.Events), len(h.logs))
	case err == nil || !slices.ContainsFunc(strings.Split(a.sentence, "|"), func(s string) bool { return strings.Contains(err.Error(), s) }):
		t.Errorf("got %v, want %q", err, a.sentence)
	case errors.As(err, &trap) && len(trap.Functions) > 0:
		said += ", in " + trap.Functions[0]
	}
	t.Logf("after %v: %s", time.Since(began).Round(time.Millisecond), said)
}

// once makes one attack.
func (a *attack) once(t *testing.T, r drivers.Runner, h *host, deadline time.Duration) (drivers.Effects, error) {
	call := a.call
	call.Tenant = "hostile"
	return r.Handle(lazyDeadline{t.Context(), time.Now().Add(deadline)}, call, h)
}

// during measures while two goroutines attack without a pause.
func (a *attack) during(t *testing.T, r drivers.Runner, measure func() time.Duration) (p99 time.Duration, attacks int64) {
	var over atomic.Bool
	var made atomic.Int64
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for !over.Load() {
				_, _ = a.once(t, r, &host{}, 100*time.Millisecond) // stopped looks at what it says
				made.Add(1)
			}
		})
	}
	p99 = measure()
	over.Store(true)
	all.Wait()
	return p99, made.Load()
}

// healthyP99 calls the healthy twins for a while, and gives the p99 of their calls. None may fail.
func healthyP99(t *testing.T, r drivers.Runner, span time.Duration) time.Duration {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	end := time.Now().Add(span)
	for c := range attackCallers {
		all.Go(func() {
			h := &host{}
			for n := c; time.Now().Before(end); n = (n + attackCallers) % attackTwins {
				call := command("say", fmt.Sprintf(`{"text":"%d"}`, n))
				began := time.Now()
				e, err := r.Handle(lazyDeadline{t.Context(), began.Add(5 * time.Second)}, call, h)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				if err != nil || !strings.Contains(string(e.Output), fmt.Sprint(n)) {
					t.Errorf("twin %d: %s, %v", n, e.Output, err)
					return
				}
				time.Sleep(attackPause)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestACrashIsInTheTwinsLog: first where it crashed, then what the guest printed.
func TestACrashIsInTheTwinsLog(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	r := load(t, s, drivertest.Build(t, filepath.Join("testdata", "wild")))
	h := &host{}
	if _, err := r.Handle(t.Context(), command("panic", `"to order"`), h); err == nil {
		t.Fatal("it did not crash")
	}
	if len(h.logs) < 3 || !strings.HasPrefix(h.logs[0], "error panic: to order, in main.newDriver.func") || !strings.Contains(h.logs[0], " at wild/main.go:") {
		t.Fatalf("the log is %q", h.logs)
	}
	if all := strings.Join(h.logs, "\n"); !strings.Contains(all, "\ndebug panic: to order") || !strings.Contains(all, "main.go:") {
		t.Errorf("the log is %q", all)
	}
}
