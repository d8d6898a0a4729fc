package bench

import (
	"container/heap"
	"sync"
	"time"
)

// clock is moved by hand. It implements actors.Clock.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers timers
	serial uint64
}

type timer struct {
	at     time.Time
	serial uint64
	index  int // in the heap; -1: it came, or was stopped
	fn     func()
}

func newClock(now time.Time) *clock { return &clock{now: now} }

// Now implements actors.Clock.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc implements actors.Clock. What is due at once is called at once.
func (c *clock) AfterFunc(d time.Duration, fn func()) (stop func() bool) {
	if d <= 0 {
		fn()
		return func() bool { return false }
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	t := &timer{at: c.now.Add(d), serial: c.serial, fn: fn}
	heap.Push(&c.timers, t)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.index < 0 {
			return false
		}
		heap.Remove(&c.timers, t.index)
		return true
	}
}

// next is when the first timer comes.
func (c *clock) next() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return time.Time{}, false
	}
	return c.timers[0].at, true
}

// move sets the time, if it is later, and calls what is due by then.
func (c *clock) move(to time.Time) {
	for {
		c.mu.Lock()
		if to.After(c.now) {
			c.now = to
		}
		if len(c.timers) == 0 || c.timers[0].at.After(c.now) {
			c.mu.Unlock()
			return
		}
		t := heap.Pop(&c.timers).(*timer)
		c.mu.Unlock()
		t.fn()
	}
}

// timers is a heap, in the order of their times and of their making.
type timers []*timer

func (h timers) Len() int { return len(h) }
func (h timers) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].serial < h[j].serial
}
func (h timers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timers) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
