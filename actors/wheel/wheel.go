// Package wheel is a timing wheel for very many, mostly idle things: a timer is an intrusive list node, setting it
// later than before costs a store, and nothing runs until a tick has something due.
//
// It does not know clocks: times are milliseconds of any clock that never goes back.
package wheel

import "sync"

// Node is one timer. Embed it in the thing that it wakes. Its fields belong to the wheel.
type Node[T any] struct {
	next, prev *Node[T]
	// at is when it is due; home is the tick whose bucket holds it, at or before at.
	at, home int64
	// Value is what Advance reports.
	Value T
}

// Wheel holds timers. Safe for concurrent use.
type Wheel[T any] struct {
	mu      sync.Mutex
	tick    int64
	now     int64 // last tick seen
	count   int   // timers that are set
	buckets []Node[T]
}

// New makes a wheel of n buckets of tickMS milliseconds; nothing fires earlier than asked, nor later than one tick
// after (plus what its driver delays Advance). now is the present in milliseconds.
func New[T any](tickMS int64, n int, now int64) *Wheel[T] {
	w := &Wheel[T]{tick: tickMS, now: now / tickMS, buckets: make([]Node[T], n)}
	for i := range w.buckets {
		b := &w.buckets[i]
		b.next, b.prev = b, b
	}
	return w
}

// Set makes the node due at the given time, instead of when it was due before.
func (w *Wheel[T]) Set(n *Node[T], at int64) {
	w.mu.Lock()
	n.at = at
	due := (at + w.tick - 1) / w.tick
	if n.next == nil || due < n.home {
		w.link(n, due)
	}
	w.mu.Unlock()
}

// Earlier makes the node due at the given time, unless it is due before that anyway.
func (w *Wheel[T]) Earlier(n *Node[T], at int64) {
	w.mu.Lock()
	if n.next == nil || at < n.at {
		n.at = at
		if due := (at + w.tick - 1) / w.tick; n.next == nil || due < n.home {
			w.link(n, due)
		}
	}
	w.mu.Unlock()
}

// Remove takes the node out of the wheel.
func (w *Wheel[T]) Remove(n *Node[T]) {
	w.mu.Lock()
	w.unlink(n)
	w.mu.Unlock()
}

func (w *Wheel[T]) unlink(n *Node[T]) {
	if n.next == nil {
		return
	}
	n.prev.next, n.next.prev = n.next, n.prev
	n.next, n.prev = nil, nil
	w.count--
}

// Empty says whether no timer is set: nothing is due before one is.
func (w *Wheel[T]) Empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count == 0
}

// link puts the node into the bucket of a tick after now, at most one turn ahead.
func (w *Wheel[T]) link(n *Node[T], due int64) {
	w.unlink(n)
	n.home = min(max(due, w.now+1), w.now+int64(len(w.buckets))-1)
	b := &w.buckets[n.home%int64(len(w.buckets))]
	n.prev, n.next = b.prev, b
	b.prev.next, b.prev = n, n
	w.count++
}

// Advance moves the wheel to the given time, takes out the nodes that are due, and appends their values to due.
func (w *Wheel[T]) Advance(now int64, due []T) []T {
	w.mu.Lock()
	defer w.mu.Unlock()
	to := now / w.tick
	if to-w.now > int64(len(w.buckets)) {
		// A long pause: one turn visits every bucket.
		w.now = to - int64(len(w.buckets))
	}
	for w.now < to {
		w.now++
		b := &w.buckets[w.now%int64(len(w.buckets))]
		n := b.next
		b.next, b.prev = b, b
		for n != b {
			next := n.next
			n.next, n.prev = nil, nil
			w.count--
			if n.at <= now {
				due = append(due, n.Value)
			} else {
				w.link(n, (n.at+w.tick-1)/w.tick)
			}
			n = next
		}
	}
	return due
}

// Next is a time, in milliseconds, at which Advance will find something due, and at most a tick after the first such time; ok is false where no timer is set.
func (w *Wheel[T]) Next() (at int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count == 0 {
		return 0, false
	}
	for i := range w.buckets {
		b := &w.buckets[i]
		for n := b.next; n != b; n = n.next {
			if due := max((n.at+w.tick-1)/w.tick, w.now+1) * w.tick; !ok || due < at {
				at, ok = due, true
			}
		}
	}
	return at, ok
}
