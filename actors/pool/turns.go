package pool

import "sync"

// maxTurns is how many actors have their turn at a time. Turns do not wait for each other, so that more would only be more
// stacks to grow and more switches between them.
const maxTurns = 32

// Turns runs actors' turns on a bounded set of goroutines, in the order in which they were asked for. While there is more to do a
// goroutine goes on with the next, so that nobody is woken for it. A turn must not wait for another one. The zero value is ready.
type Turns struct {
	mu      sync.Mutex
	queue   []func() // from head on
	head    int
	running int
	idle    []chan func()
	over    bool
}

// Schedule has fn run; it does not block. Schedule and Throughput make Turns a dispatcher of protoactor.
func (r *Turns) Schedule(fn func()) {
	r.mu.Lock()
	if r.running == maxTurns {
		r.queue = append(r.queue, fn)
		r.mu.Unlock()
		return
	}
	r.running++
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

// Throughput is how many messages an actor handles before it yields.
func (r *Turns) Throughput() int { return 300 }

func (r *Turns) run(fn func()) {
	c := make(chan func(), 1)
	for fn != nil {
		fn()
		r.mu.Lock()
		if fn = r.next(); fn != nil {
			r.mu.Unlock()
			continue
		}
		r.running--
		if r.over {
			r.mu.Unlock()
			return
		}
		r.idle = append(r.idle, c)
		r.mu.Unlock()
		fn = <-c
	}
}

// next takes the first of the queue, or nil. The caller has the lock.
func (r *Turns) next() func() {
	if r.head == len(r.queue) {
		return nil
	}
	fn := r.queue[r.head]
	r.queue[r.head] = nil
	if r.head++; r.head == len(r.queue) {
		r.queue, r.head = r.queue[:0], 0
		if cap(r.queue) > 1<<16 {
			r.queue = nil
		}
	} else if r.head > 4096 && r.head > len(r.queue)/2 {
		n := copy(r.queue, r.queue[r.head:])
		clear(r.queue[n:])
		r.queue, r.head = r.queue[:n], 0
	}
	return fn
}

// Close ends the goroutines that wait; Schedule still works, on goroutines that end afterwards.
func (r *Turns) Close() {
	r.mu.Lock()
	idle := r.idle
	r.idle, r.over = nil, true
	r.mu.Unlock()
	for _, c := range idle {
		c <- nil
	}
}
