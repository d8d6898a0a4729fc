package actors

import (
	"context"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// runner is a driver's version loaded into the sandbox, shared by the twins that use it. Fields but digest belong to
// the table's lock until ready is seen.
type runner struct {
	digest string
	drivers.Runner
	refs    int
	idle    time.Time
	loading bool
	err     error
	waiting []func(error)
}

// complaintsEvery is how often the log tells of one driver's failures at most.
const complaintsEvery = time.Minute

// complaints bounds what the log says about one driver, of which a site may have thousands of twins.
type complaints struct {
	mu     sync.Mutex
	next   time.Time
	hidden int
}

// due says whether a failure is to be logged, and how many were not since the last one that was.
func (c *complaints) due(now time.Time) (hidden int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.next) {
		c.hidden++
		return 0, false
	}
	hidden, c.hidden = c.hidden, 0
	c.next = now.Add(complaintsEvery)
	return hidden, true
}

// runners loads drivers once for all of their twins, off the actors' turns.
type runners struct {
	load func(ctx context.Context, digest string) (drivers.Runner, error)
	ctx  context.Context
	wg   sync.WaitGroup
	room chan struct{} // bounds how many load at a time, those that wait for the compiler among them

	mu     sync.Mutex
	loaded map[string]*runner
}

// loadingAtOnce is how many drivers' files are in memory to be loaded. One at a time is compiled; what the cache has goes past
// those that wait for that.
const loadingAtOnce = 16

func newRunners(ctx context.Context, load func(context.Context, string) (drivers.Runner, error)) *runners {
	return &runners{load: load, ctx: ctx, room: make(chan struct{}, loadingAtOnce), loaded: map[string]*runner{}}
}

// acquire gives the runner of a digest and counts the use; release it. Where it is not loaded yet, ready is called
// once it is, or failed to; until then the Runner in it must not be used.
func (r *runners) acquire(digest string, ready func(error)) (run *runner, loaded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	run = r.loaded[digest]
	if run == nil {
		run = &runner{digest: digest}
		r.loaded[digest] = run
	}
	run.refs++
	if run.Runner != nil {
		return run, true
	}
	run.waiting = append(run.waiting, ready)
	if !run.loading {
		run.loading = true
		r.wg.Add(1)
		go r.fetch(run)
	}
	return run, false
}

func (r *runners) fetch(run *runner) {
	defer r.wg.Done()
	var got drivers.Runner
	var err error
	select {
	case r.room <- struct{}{}:
		got, err = r.load(r.ctx, run.digest)
		<-r.room
	case <-r.ctx.Done():
		err = r.ctx.Err()
	}
	if err != nil {
		got = nil
	}
	r.mu.Lock()
	run.Runner, run.err, run.loading = got, err, false
	waiting := run.waiting
	run.waiting = nil
	r.mu.Unlock()
	for _, ready := range waiting {
		ready(err)
	}
}

// release ends a use.
func (r *runners) release(run *runner) {
	r.mu.Lock()
	run.refs--
	run.idle = time.Now()
	r.mu.Unlock()
}

// sweep closes what nobody used for a while. Closing waits for running calls, of which there are none.
func (r *runners) sweep(unused time.Duration) {
	r.mu.Lock()
	var idle []drivers.Runner
	for digest, run := range r.loaded {
		if run.refs == 0 && !run.loading && time.Since(run.idle) >= unused {
			delete(r.loaded, digest)
			if run.Runner != nil {
				idle = append(idle, run.Runner)
			}
		}
	}
	r.mu.Unlock()
	for _, run := range idle {
		_ = run.Close() // nothing is lost with an instance
	}
}

// close waits for loads and closes all; no twin uses any by then.
func (r *runners) close() {
	r.wg.Wait()
	r.mu.Lock()
	for _, run := range r.loaded {
		run.refs = 0
		run.idle = time.Time{}
	}
	r.mu.Unlock()
	r.sweep(0)
}

// count of the loaded drivers.
func (r *runners) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.loaded)
}
