package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock measures time since some moment that never changes while the machine runs. It goes on while the machine
// sleeps and knows no steps, so a lease that passed during a suspend is over on waking. Safe for concurrent use.
type Clock interface {
	Now() time.Duration
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
