package actors

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Clock is the time that twins live by: their timers, waits and stamps, but not what guests may compute, which is the
// machine's time. Safe for concurrent use.
type Clock interface {
	// Now is the present. It must never go back.
	Now() time.Time
	// AfterFunc calls fn once, d from now, from any goroutine. stop says whether it came before that.
	AfterFunc(d time.Duration, fn func()) (stop func() bool)
}

// stamp is the present for what is shown and stored, in milliseconds since 1970.
func (e *Engine) stamp() int64 { return e.now().UnixMilli() }

func (e *Engine) now() time.Time {
	if e.o.Clock == nil {
		return time.Now()
	}
	return e.o.Clock.Now()
}

// nowMS is the wall clock in milliseconds as it was at start, moved on by a clock that never goes back. The wheels and
// all waiting run on it.
func (e *Engine) nowMS() int64 { return e.baseMS + e.now().Sub(e.base).Milliseconds() }

// Steady is a Clock that may be set: Elapsed is the time that passes whatever Now is set to. Any other Clock is never set.
type Steady interface{ Elapsed() time.Duration }

// minStep is by how much the wall clock has to be off at once to have been set, in milliseconds; less is corrected gradually.
const minStep = 1000

// steps are by how much the wall clock was set.
type steps struct {
	mu  sync.Mutex
	off int64 // of the wall clock from the steady one, at the last look
	sum int64
}

// stepped is by how many milliseconds the wall clock was set since the start, in all.
func (e *Engine) stepped() int64 {
	now := e.now()
	passed := now.Sub(e.base)
	if e.o.Clock != nil {
		passed = time.Duration(now.UnixMilli()-e.baseMS) * time.Millisecond
		if c, ok := e.o.Clock.(Steady); ok {
			passed = c.Elapsed()
		}
	}
	s := &e.steps
	s.mu.Lock()
	defer s.mu.Unlock()
	off := now.UnixMilli() - e.baseMS - passed.Milliseconds()
	d := off - s.off
	if s.off = off; d >= minStep || d <= -minStep {
		s.sum += d
		e.log.Warn("the clock was set", "by", time.Duration(d)*time.Millisecond)
	}
	return s.sum
}

// both are nowMS and stamp of one look at the clock.
func (e *Engine) both() (tick, wall int64) {
	now := e.now()
	return e.baseMS + now.Sub(e.base).Milliseconds(), now.UnixMilli()
}

// nowMS and stamp of a twin are those of its turn: a turn looks at the clock once.
func (t *twin) nowMS() int64 { return t.tick }
func (t *twin) stamp() int64 { return t.wall }

// tickMS is the resolution of the timers. A clock that is moved by hand is exact.
func (e *Engine) tickMS() int64 {
	if e.o.Clock != nil {
		return 1
	}
	return tick
}

// withDeadline is context.WithDeadline by the engine's clock.
func (e *Engine) withDeadline(parent context.Context, at time.Time) (context.Context, context.CancelFunc) {
	if e.o.Clock == nil {
		return context.WithDeadline(parent, at)
	}
	ctx, cancel := context.WithCancelCause(parent)
	stop := e.o.Clock.AfterFunc(at.Sub(e.now()), func() {
		e.waits.wakes.Add(1) // who waited goes on, though he has yet to notice
		cancel(context.DeadlineExceeded)
	})
	var once sync.Once
	return clocked{ctx}, func() {
		once.Do(func() {
			if !stop() {
				e.waits.rests.Add(1)
			}
			cancel(context.Canceled)
		})
	}
}

// clocked is a context that ends by the engine's clock, which its deadline would not be understood by.
type clocked struct{ context.Context }

// Err implements context.Context.
func (c clocked) Err() error {
	if errors.Is(context.Cause(c.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return c.Context.Err()
}

// Tick has everything done that is due by now. An engine with a clock of its own does nothing by itself when that clock
// is moved: who moves it calls Tick afterwards.
func (e *Engine) Tick() {
	now := e.nowMS()
	for _, s := range e.shards {
		if due := s.wheel.Advance(now, nil); len(due) > 0 {
			e.system.Root.Send(s.pid, &shardDue{due})
		}
	}
	e.backlog.retry()
	e.room.look()
	if e.o.Clock != nil {
		signal(e.waker.wake)
	}
}

// NextDue is when an active twin wants to be looked at next; ok is false where none does.
func (e *Engine) NextDue() (at time.Time, ok bool) {
	first := int64(0)
	for _, s := range e.shards {
		if due, some := s.wheel.Next(); some && (!ok || due < first) {
			first, ok = due, true
		}
	}
	return e.base.Add(time.Duration(first-e.baseMS) * time.Millisecond), ok
}
