package drivers_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

// BenchmarkManyTwins serves 100,000 twins of one driver and shows the most memory that its instances took meanwhile. They
// come as fast as they can, which takes more instances than if they came within a minute.
func BenchmarkManyTwins(b *testing.B) {
	const twins, callers = 100_000, 64
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b)})
	r := load(b, s, drivertest.Echo(b))
	var most, next atomic.Int64
	began := time.Now()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			h := &host{}
			for n := next.Add(1); n <= twins; n = next.Add(1) {
				state := fmt.Appendf(nil, `{"properties":{"count":%d,"level":21.5,"on":true,"label":"lobby"},"memory":{"calls":%d}}`, n, n)
				e, err := r.Handle(lazyDeadline{b.Context(), time.Now().Add(time.Minute)}, drivers.Call{Event: drivers.EventCommand,
					Tenant: "default", Input: []byte(benchInput), State: func() []byte { return state }}, h)
				if err != nil || string(e.Output) != fmt.Sprint(n+1) {
					b.Errorf("twin %d: %s, %v", n, e.Output, err)
					return
				}
				for now := s.GuestBytes(); now > most.Load(); {
					most.Store(now)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	bench(b, map[string]any{"name": "guest memory while 100,000 twins of one driver are served", "unit": "MB",
		"ours": float64(most.Load()) / (1 << 20), "goal": "at most 64 MB, within a minute", "met": most.Load() <= 64<<20 && took <= time.Minute})
}

// BenchmarkUpload is what an upload of a Go driver of 3 MB costs, from the file to the answer of its first call, on a node
// that has not seen it. As on a node, a child process compiles. Nothing of it runs beside something else, so that on a quiet
// machine it takes as long as the processor time, which is told beside it.
func BenchmarkUpload(b *testing.B) {
	const uploads = 5
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: b.TempDir(), Compiler: drivertest.Compiler(b)})
	file := drivertest.Echo(b)
	best, least := time.Hour, time.Hour
	for n := range uploads {
		// Another version: its code differs by a constant that the driver's data carries.
		version := bytes.Replace(file, []byte("no action"), fmt.Appendf(nil, "no acti%02d", n), 1)
		if n > 0 && bytes.Equal(version, file) {
			b.Fatal("the versions are the same")
		}
		began, worked := time.Now(), processorTime()
		if _, err := s.Verify(b.Context(), version); err != nil {
			b.Fatal(err)
		}
		r, err := s.Load(b.Context(), version)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Handle(b.Context(), command("say", `{"text":"world"}`), &host{}); err != nil {
			b.Fatal(err)
		}
		best, least = min(best, time.Since(began)), min(least, processorTime()-worked)
		_ = r.Close()
	}
	bench(b, map[string]any{"name": fmt.Sprintf("upload to first call: Go driver of %.1f MB, %.2f s of a processor", float64(len(file))/(1<<20),
		least.Seconds()), "unit": "s",
		"ours": best.Seconds(), "goal": "at most 1.5 s", "met": best <= 1500*time.Millisecond})
}

// processorTime is that of this process and of its children that have ended.
func processorTime() (all time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return all
}

const loopScript = `export default driver({
  name: 'bench', version: '1.0.0',
  actions: { loop: { input: {}, output: {}, run: (twin, n) => { let x = 1; for (let i = 0; i < n; i++) x = (x * 5 + i) & 0xffff; return x; } } },
});`

// BenchmarkScriptLoop compares a tight loop in JavaScript through the sandbox with the same in bare wazero, without fuel and
// deadline. They take turns; the best turn counts.
func BenchmarkScriptLoop(b *testing.B) {
	drivertest.NeedEngine(b)
	const rounds, turns = 30, 50_000
	r := load(b, newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b)}), []byte(loopScript))
	bare := newBareScript(b, loopScript)
	input := fmt.Appendf(nil, `{"action":"loop","input":%d}`, turns)
	ours, floor := time.Hour, time.Hour
	for range rounds {
		began := time.Now()
		e, err := r.Handle(lazyDeadline{b.Context(), began.Add(time.Second)}, drivers.Call{Event: drivers.EventCommand, Tenant: "a", Input: input}, &host{})
		ours = min(ours, time.Since(began))
		began = time.Now()
		if bare.handle(b, uint64(drivers.EventCommand), input) != 0 || err != nil || string(e.Output) != string(bare.output) {
			b.Fatal(string(e.Output), string(bare.output), err)
		}
		floor = min(floor, time.Since(began))
	}
	ratio := float64(ours) / float64(floor)
	bench(b, map[string]any{"name": "metered JavaScript: tight loop, a turn", "unit": "ns", "ours": float64(ours.Nanoseconds()) / turns,
		"floor": float64(floor.Nanoseconds()) / turns, "ratio": ratio, "goal": "at most 1.4 times the floor", "met": ratio <= 1.4})
}
