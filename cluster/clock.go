package cluster

import (
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
// sleep too).
type BootClock struct{}

// Now reads the clock; it does not block.
func (BootClock) Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(bootClockID, &ts); err != nil {
		panic("cluster: the machine has no boot clock: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// AfterFunc calls f after d, not counting the machine's sleep.
func (BootClock) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	return time.AfterFunc(d, f).Stop
}
