package pool

import (
	"runtime"
	"sync"
	"time"
)

const (
	// maxTurns is how many actors have their turn at a time where turns take long. More would only be more stacks to grow and more
	// switches between them.
	maxTurns = 32
	// longTurn is how long nobody may have begun a turn, while some wait, until one more goroutine takes them.
	longTurn = 5 * time.Millisecond
)

// Turns runs actors' turns on a bounded set of goroutines, in the order in which they were asked for: one for each processor, and
// up to maxTurns where turns take long, as those that read from a slow disk. While there is more to do a
// goroutine goes on with the next, so that nobody is woken for it. A turn must not wait for another one. The zero value is ready.
type Turns struct {
	mu      sync.Mutex
	queue   []func() // from head on
	head    int
	running int
	procs   int // GOMAXPROCS when the first turn was asked for
	idle    []chan func()
	over    bool

	watch   *time.Timer // runs relieve; nil: nothing has waited yet
	watched bool        // it is set
	taken   uint64      // turns out of the queue
	seen    uint64      // taken when relieve last looked
}

// Schedule has fn run; it does not block. Schedule and Throughput make Turns a dispatcher of protoactor.
func (r *Turns) Schedule(fn func()) {
	r.mu.Lock()
	if r.procs == 0 {
		r.procs = min(runtime.GOMAXPROCS(0), maxTurns)
	}
	if r.running < r.procs {
		r.begin(fn)
		return
	}
	r.queue = append(r.queue, fn)
	if !r.watched {
		r.watched, r.seen = true, r.taken
		if r.watch == nil {
			r.watch = time.AfterFunc(longTurn, r.relieve)
		} else {
			r.watch.Reset(longTurn)
		}
	}
	r.mu.Unlock()
}

// begin has one more goroutine run fn first. The caller has the lock, which is given back.
func (r *Turns) begin(fn func()) {
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

// relieve has one more goroutine take turns where none was taken for a while, and looks again as long as some wait.
func (r *Turns) relieve() {
	r.mu.Lock()
	if r.head == len(r.queue) {
		r.watched = false
		r.mu.Unlock()
		return
	}
	r.watch.Reset(longTurn)
	stuck := r.taken == r.seen && r.running < maxTurns
	r.seen = r.taken
	if !stuck {
		r.mu.Unlock()
		return
	}
	r.begin(r.next())
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
	r.taken++
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
