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

// stillClock stands at a moment, and notes what it was asked to call after.
type stillClock struct{ now, after time.Duration }

func (c *stillClock) Now() time.Duration { return c.now }

func (c *stillClock) AfterFunc(d time.Duration, _ func()) func() bool {
	c.after = d
	return func() bool { return true }
}

func TestDriftingClock(t *testing.T) {
	still := &stillClock{}
	fast, slow := DriftingClock{still, 1.25}, DriftingClock{still, 0.5}
	for _, at := range []time.Duration{0, time.Second, 80 * 24 * time.Hour} {
		if still.now = at; fast.Now() != at*5/4 || slow.Now() != at/2 {
			t.Errorf("at %v the fast clock shows %v, the slow one %v", at, fast.Now(), slow.Now())
		}
	}
	if fast.AfterFunc(5*time.Second, nil); still.after != 4*time.Second {
		t.Errorf("5 s of the fast clock are over after %v", still.after)
	}
	if slow.AfterFunc(5*time.Second, nil); still.after != 10*time.Second {
		t.Errorf("5 s of the slow clock are over after %v", still.after)
	}
}

func BenchmarkBootClock(b *testing.B) {
	var c BootClock
	for b.Loop() {
		c.Now()
	}
}
