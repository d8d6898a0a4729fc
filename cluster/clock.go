package cluster

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Clock measures time since some moment that never changes while the machine runs. It goes on while the machine
// sleeps and knows no steps, so a lease that passed during a suspend is over on waking. Safe for concurrent use.
type Clock interface {
	Now() time.Duration
	// AfterFunc calls f once, after d at the earliest, from a goroutine of its own; stop keeps it from being called and says
	// whether it did. It need not go on while the machine sleeps: who is called looks at Now.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// BootClock is the machine's clock since boot (CLOCK_BOOTTIME on Linux; on macOS CLOCK_MONOTONIC, which there counts
// sleep too). The zero value is ready.
type BootClock struct{ last atomic.Pointer[bootReading] }

// bootReading is the boot clock at a moment. Asking the kernel takes ten times as long as asking the runtime, whose
// clock runs alike but stands still while the machine sleeps; a sleep shows as a step of the wall clock against it.
type bootReading struct {
	at   time.Time
	wall int64 // of at, in nanoseconds
	boot time.Duration
}

const (
	// bootKept bounds how long a reading is used; the wall clock is slewed by at most 0.5 ms meanwhile.
	bootKept = time.Second
	// bootStep is how much the wall clock may differ from the runtime's before the kernel is asked again.
	bootStep = time.Millisecond
	// bootExact bounds the time between the two clocks of a reading, if it can be had in a few tries.
	bootExact = 20 * time.Microsecond
)

// Now reads the clock; it does not block.
func (c *BootClock) Now() time.Duration {
	now := time.Now()
	if r := c.last.Load(); r != nil {
		passed := now.Sub(r.at)
		step := time.Duration(now.UnixNano()-r.wall) - passed
		if passed < bootKept && -bootStep < step && step < bootStep {
			return r.boot + passed
		}
	}
	return c.read()
}

func (c *BootClock) read() time.Duration {
	var best *bootReading
	var exact time.Duration
	for range 5 {
		before := time.Now()
		boot := kernelBootTime()
		took := time.Since(before)
		if best == nil || took < exact {
			best, exact = &bootReading{before, before.UnixNano(), boot}, took
		}
		if exact <= bootExact {
			break
		}
	}
	c.last.Store(best)
	return best.boot
}

func kernelBootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(bootClockID, &ts); err != nil {
		panic("cluster: the machine has no boot clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// DriftingClock is a clock that runs faster or slower than another, for tests of what drift does to leases.
type DriftingClock struct {
	// Of is the clock that it drifts against.
	Of Clock
	// Rate is its seconds in a second of Of; above 0.
	Rate float64
}

// Now reads the clock; it does not block.
func (c *DriftingClock) Now() time.Duration { return time.Duration(float64(c.Of.Now()) * c.Rate) }

// AfterFunc calls f after d by this clock.
func (c *DriftingClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return c.Of.AfterFunc(time.Duration(float64(d)/c.Rate), f)
}

// AfterFunc calls f after d, not counting the machine's sleep.
func (c *BootClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}
