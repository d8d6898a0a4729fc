package cluster

import (
	"testing"
	"time"
)

func TestBootClockIsTheKernels(t *testing.T) {
	var c BootClock
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		before := kernelBootTime()
		now := c.Now()
		after := kernelBootTime()
		if now < before-time.Millisecond || now > after+time.Millisecond {
			t.Fatalf("%v, the kernel says %v to %v", now, before, after)
		}
	}
}

// While the machine sleeps the runtime's clock stands still and the wall clock goes on.
func TestBootClockNoticesASleep(t *testing.T) {
	var c BootClock
	c.Now()
	slept := *c.last.Load()
	slept.wall -= int64(5 * time.Second)
	slept.boot -= 5 * time.Second
	c.last.Store(&slept)
	if now, kernel := c.Now(), kernelBootTime(); kernel-now > time.Second {
		t.Errorf("%v after a sleep, the kernel says %v", now, kernel)
	}
}

func BenchmarkBootClock(b *testing.B) {
	var c BootClock
	for b.Loop() {
		c.Now()
	}
}
