package drivers_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/wasm"
)

const (
	attackTwins   = 1000
	attackCallers = 4
	attackPause   = time.Millisecond
	// attackCalls are what the healthy twins answer beside each attack.
	attackCalls = 400
	// attackDeadline is that of hostile calls, and start-up code, that never end; attackLimit that of those that do.
	attackDeadline = 100 * time.Millisecond
	attackLimit    = 30 * time.Second
	attackBudget   = 256 << 20
	// attackRoom is what the instances that an attack leaves may take more than before.
	attackRoom = 8 << 20
)

// attack is what somebody hostile does, again and again.
type attack struct {
	name string
	// once makes one, and gives what was said of it; an error where it was not stopped.
	once func() (said string, err error)
	// says is a pattern of what is said.
	says string
}

// TestAttacks has two attackers at a time beside 1,000 healthy twins of another driver. Each attack is ended or refused with
// a sentence that says why, all healthy calls are answered, and the memory comes back. What the healthy ones notice is
// BenchmarkAttacks' to measure.
func TestAttacks(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t), MemoryBudget: attackBudget,
		VerifyTimeout: attackDeadline})
	healthy := load(t, s, drivertest.Echo(t))
	neighbours(t, healthy, times(attackCallers)) // the first call makes what instances are copies of
	for _, a := range attacks(t, s) {
		t.Run(a.name, func(t *testing.T) {
			began := time.Now()
			said, err := a.once()
			if err != nil || !regexp.MustCompile(a.says).MatchString(said) {
				t.Fatalf("got %q, %v; want %q", said, err, a.says)
			}
			t.Logf("after %v: %s", time.Since(began).Round(time.Millisecond), said)
			before := s.GuestBytes()
			made := a.during(t, func() { neighbours(t, healthy, times(attackCalls)) })
			t.Logf("%d healthy calls were answered beside %d attacks", attackCalls, made)
			if after := s.GuestBytes(); after > before+attackRoom {
				t.Errorf("the guests' memory stays at %d KiB; it was %d", after>>10, before>>10)
			}
		})
	}
}

// during does something while two goroutines attack without a pause, and says how many attacks they made.
func (a *attack) during(tb testing.TB, do func()) int64 {
	var over atomic.Bool
	var made atomic.Int64
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for !over.Load() {
				if said, err := a.once(); err != nil {
					tb.Errorf("%s: %s, %v", a.name, said, err)
					return
				}
				made.Add(1)
			}
		})
	}
	do()
	over.Store(true)
	all.Wait()
	return made.Load()
}

// neighbours has the callers call the healthy twins in turn, as long as more says so, and gives what each call took. None
// may fail.
func neighbours(tb testing.TB, r drivers.Runner, more func() bool) (took []time.Duration) {
	tb.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for c := range attackCallers {
		all.Go(func() {
			h := &host{}
			for n := c; more(); n = (n + attackCallers) % attackTwins {
				call := command("say", fmt.Sprintf(`{"text":"%d"}`, n))
				began := time.Now()
				e, err := r.Handle(lazyDeadline{tb.Context(), began.Add(attackLimit)}, call, h)
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
				if err != nil || string(e.Output) != fmt.Sprintf(`{"text":"%d"}`, n) {
					tb.Errorf("twin %d: %s, %v", n, e.Output, err)
					return
				}
				time.Sleep(attackPause)
			}
		})
	}
	all.Wait()
	return took
}

// times says so n times, to all callers together; until says so for a time.
func times(n int64) func() bool {
	var asked atomic.Int64
	return func() bool { return asked.Add(1) <= n }
}

func until(span time.Duration) func() bool {
	end := time.Now().Add(span)
	return func() bool { return time.Now().Before(end) }
}

// calling has a driver make a call that is to fail, within limit.
func calling(tb testing.TB, r drivers.Runner, call drivers.Call, limit time.Duration) func() (string, error) {
	call.Tenant = "hostile"
	return func() (string, error) {
		_, err := r.Handle(lazyDeadline{tb.Context(), time.Now().Add(limit)}, call, &host{})
		if err == nil {
			return "", errors.New("the call was done")
		}
		said := err.Error()
		if trap := (*wasm.Trap)(nil); errors.As(err, &trap) && len(trap.Functions) > 0 {
			said += ", in " + trap.Functions[0]
		}
		return said, nil
	}
}

// flooding has a driver ask for more than a call may: what is too much is refused, the call itself is not.
func flooding(tb testing.TB, r drivers.Runner, call drivers.Call) func() (string, error) {
	call.Tenant = "hostile"
	return func() (string, error) {
		h := &host{}
		e, err := r.Handle(lazyDeadline{tb.Context(), time.Now().Add(attackLimit)}, call, h)
		return fmt.Sprintf("%d events and %d lines of its log were kept, the others refused", len(e.Events), len(h.logs)), err
	}
}

// uploading has somebody upload a file that is to be refused, as often as a network might bring it.
func uploading(tb testing.TB, s *drivers.Sandbox, file []byte) func() (string, error) {
	return func() (string, error) {
		time.Sleep(attackPause)
		if _, err := s.Verify(tb.Context(), file); err != nil {
			return err.Error(), nil
		}
		return "", errors.New("the file was taken")
	}
}

// taken uploads what is just within the limits. On a busy machine its start may be refused for its time.
func taken(tb testing.TB, s *drivers.Sandbox, file []byte) func() (string, error) {
	return func() (string, error) {
		time.Sleep(attackPause)
		if _, err := s.Verify(tb.Context(), file); err != nil {
			return err.Error(), nil
		}
		return "taken", nil
	}
}

func wildDriver(tb testing.TB, s *drivers.Sandbox) drivers.Runner {
	return load(tb, s, drivertest.Build(tb, filepath.Join("testdata", "wild")))
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
