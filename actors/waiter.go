package actors

import (
	"sync"
	"time"

	"github.com/polluxhq/pollux/cluster"
)

// waiter is what a call waits with. It is used again once its reply has been taken; one whose call was given up is not, as the
// reply may yet come.
type waiter struct {
	got   chan cluster.Reply
	reply func(cluster.Reply)
	timer *time.Timer // of a call without a deadline of its own
}

var waiters = sync.Pool{New: func() any {
	w := &waiter{got: make(chan cluster.Reply, 1)}
	w.reply = func(r cluster.Reply) { w.got <- r }
	return w
}}

// within gives what tells that d is over.
func (w *waiter) within(d time.Duration) <-chan time.Time {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	return w.timer.C
}

// free gives w back, whose reply has been taken.
func (w *waiter) free() {
	w.still()
	waiters.Put(w)
}

// still ends the timer.
func (w *waiter) still() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
