package pool

import "sync"

// Routines runs functions on goroutines that it keeps for a while: a new goroutine would have to grow its stack anew
// for each call that goes deep, which costs more than the call's own bookkeeping. The zero value is ready.
type Routines struct {
	mu   sync.Mutex
	idle []chan func()
	over bool
}

// maxIdle bounds the goroutines that wait for work.
const maxIdle = 64

// Go runs fn on a goroutine. It does not block.
func (r *Routines) Go(fn func()) {
	r.mu.Lock()
	if n := len(r.idle); n > 0 {
		c := r.idle[n-1]
		r.idle = r.idle[:n-1]
		r.mu.Unlock()
		c <- fn
		return
	}
	r.mu.Unlock()
	go r.run(fn)
}

func (r *Routines) run(fn func()) {
	c := make(chan func(), 1)
	for fn != nil {
		fn()
		r.mu.Lock()
		if r.over || len(r.idle) >= maxIdle {
			r.mu.Unlock()
			return
		}
		r.idle = append(r.idle, c)
		r.mu.Unlock()
		fn = <-c
	}
}

// Close ends the goroutines that wait; Go still works, on goroutines that end afterwards.
func (r *Routines) Close() {
	r.mu.Lock()
	idle := r.idle
	r.idle, r.over = nil, true
	r.mu.Unlock()
	for _, c := range idle {
		c <- nil
	}
}
