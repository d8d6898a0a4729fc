package wasm

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// watchTick is how often running calls are looked at. A call is stopped at most so long after its context ended; where
// its deadline is known, at the deadline.
const watchTick = 5 * time.Millisecond

// trimTick is how often idle instances are looked at.
const trimTick = 5 * time.Second

// watcher ends calls whose context has ended. One goroutine looks at all running calls, so that a call costs neither
// a timer nor a derived context; while nothing runs it sleeps.
type watcher struct {
	running atomic.Int64
	parked  atomic.Bool
	wake    chan struct{}
	quit    chan struct{}
	done    sync.WaitGroup

	mu        sync.Mutex
	instances map[*Instance]struct{}
}

func startWatcher(trim func(now time.Time)) *watcher {
	w := &watcher{wake: make(chan struct{}, 1), quit: make(chan struct{}), instances: map[*Instance]struct{}{}}
	w.done.Go(func() { w.run(trim) })
	return w
}

func (w *watcher) stop() {
	close(w.quit)
	w.done.Wait()
}

func (w *watcher) add(in *Instance) {
	w.mu.Lock()
	w.instances[in] = struct{}{}
	w.mu.Unlock()
}

func (w *watcher) remove(in *Instance) {
	w.mu.Lock()
	delete(w.instances, in)
	w.mu.Unlock()
}

// begin counts a call; the watcher is woken where it sleeps.
func (w *watcher) begin() {
	if w.running.Add(1) == 1 && w.parked.Load() {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) end() { w.running.Add(-1) }

func (w *watcher) run(trim func(now time.Time)) {
	timer := time.NewTimer(watchTick)
	defer timer.Stop()
	trimmed := time.Now()
	for {
		wait := watchTick
		// Parking first, looking second: a call that begins in between sees one of the two.
		w.parked.Store(true)
		if w.running.Load() == 0 {
			wait = trimTick
		} else {
			w.parked.Store(false)
			wait = min(wait, w.sweep(time.Now()))
		}
		timer.Reset(wait)
		select {
		case <-w.quit:
			return
		case <-w.wake:
		case <-timer.C:
		}
		w.parked.Store(false)
		if now := time.Now(); now.Sub(trimmed) >= trimTick {
			trimmed = now
			trim(now)
		}
	}
}

// sweep stops the calls whose context has ended and returns the time until the next deadline.
func (w *watcher) sweep(now time.Time) time.Duration {
	next := watchTick
	w.mu.Lock()
	defer w.mu.Unlock()
	for in := range w.instances {
		if left, running := in.check(now); running && left < next {
			next = left
		}
	}
	return max(next, 100*time.Microsecond)
}

// callContext is the context of an instance's calls. It ends once, by the watcher, and the instance with it.
type callContext struct {
	in   *Instance
	done chan struct{}
	err  atomic.Pointer[error]
}

type instanceKey struct{}

// Deadline implements context.Context; the watcher knows the deadline.
func (*callContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} { return c.done }

// Err implements context.Context.
func (c *callContext) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return c.in
	}
	return nil
}

// end closes the context. The caller sees to it that it comes once.
func (c *callContext) end(err error) {
	c.err.Store(&err)
	close(c.done)
}

// ended says why a context is over, if it is: one whose deadline has passed is, also where nobody told it.
func ended(ctx context.Context, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !now.Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
