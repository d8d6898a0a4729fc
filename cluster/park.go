package cluster

import (
	"maps"
	"slices"
	"time"
)

// parking holds calls whose slot is moving. It is bounded in number and time.
type parking struct {
	bySlot   map[Slot][]*call
	count    int
	sweeping bool
}

const (
	// maxParked bounds the calls that wait at a node.
	maxParked = 8192
	// parkMove bounds the wait for a hand-over: a release takes up to 8 s, then comes a flip.
	parkMove = 15 * time.Second
	// parkRecord bounds the wait for a record that the sender has seen already.
	parkRecord = 5 * time.Second
	// parkUnreached bounds the wait for another owner where the present one cannot be reached.
	parkUnreached = time.Second
	// sweepEvery is how exact those bounds are.
	sweepEvery = 50 * time.Millisecond
)

// parkHere parks a call for a slot of this node that the handler does not have now. What others sent is answered where
// the slot is about to go.
func (c *call) parkHere(o *owner) {
	n := c.n
	if c.received && o.mine {
		n.mu.Lock()
		goes := n.phases[c.slot] == phaseReleasing || n.phases[c.slot] == phaseReleased
		n.mu.Unlock()
		if goes {
			c.n.count.refused[refusedNotOwner].Add(1)
			c.finish(Reply{Err: n.notOwner(c.slot, o.since)})
			return
		}
	}
	c.here = true
	c.park(o.since+1, parkMove, errMoving)
}

// park keeps a call until the table shows the slot with at least the since that it needs (0: until the calls before it have
// gone on), or until the slot is admitted here, at most for the given time. The calls of a slot stay in order.
func (c *call) park(need uint64, atMost time.Duration, why error) {
	n := c.n
	n.mu.Lock()
	c.need, c.why = need, why
	c.until = n.o.Clock.Now() + atMost
	switch {
	case n.stopped, n.turning:
		n.later(func() { c.refuse(refusedUnavailable, errClosed) })
	case n.park.count >= maxParked:
		n.later(func() { c.refuse(refusedParked, ErrOverloaded) })
	default:
		n.count.parked.Add(1)
		n.park.bySlot[c.slot] = append(n.park.bySlot[c.slot], c)
		n.park.count++
		n.ahead[c.slot].Add(1)
		n.wake(c.slot)
		if n.park.count > 0 && !n.park.sweeping {
			n.park.sweeping = true
			n.after(sweepEvery, n.sweep)
		}
	}
	n.unlock()
}

// goesOn tells whether a parked call has what it waits for: a newer tenure, or this node's own again.
func (n *Node) goesOn(c *call) bool {
	o := n.owners[c.slot].Load()
	switch {
	case c.strayed:
		return true
	case c.need == 0:
		return c.pause == 0 || n.o.Clock.Now() >= c.pause
	case o == nil:
		return false
	case o.mine:
		return o.admitted.Load() && (c.here || o.since >= c.need)
	default:
		return o.since >= c.need
	}
}

// wake lets the parked calls of a slot go on, in their order. Those that come meanwhile go behind them.
func (n *Node) wake(s Slot) {
	waiting := n.park.bySlot[s]
	ready := 0
	for ready < len(waiting) && n.goesOn(waiting[ready]) {
		ready++
	}
	if ready == 0 {
		return
	}
	if ready == len(waiting) {
		delete(n.park.bySlot, s)
	} else {
		n.park.bySlot[s] = waiting[ready:]
	}
	n.park.count -= ready
	n.count.retried.Add(uint64(ready))
	n.later(func() {
		for _, c := range waiting[:ready] {
			c.again()
		}
		n.mu.Lock()
		n.ahead[s].Add(int32(-ready))
		n.wake(s)
		n.unlock()
	})
}

// sweep answers the parked calls that have waited long enough.
func (n *Node) sweep() {
	now := n.o.Clock.Now()
	for _, s := range slices.Sorted(maps.Keys(n.park.bySlot)) {
		waiting := n.park.bySlot[s]
		left := slices.DeleteFunc(waiting, func(c *call) bool { return n.expired(c, now) })
		n.park.count -= len(waiting) - len(left)
		n.ahead[s].Add(int32(len(left) - len(waiting)))
		if n.park.bySlot[s] = left; len(left) == 0 {
			delete(n.park.bySlot, s)
		}
		n.wake(s)
	}
	if n.park.sweeping = n.park.count > 0; n.park.sweeping {
		n.after(sweepEvery, n.sweep)
	}
}

func (n *Node) expired(c *call, now time.Duration) bool {
	nobody := n.unmetBy(c.slot)
	if nobody != nil && (!n.LeaseValid() || c.shifts()) {
		nobody = nil
	}
	// Looked at after the shift: where that is over, the place has changed.
	c.strayed = n.SlotOf(c.env.Target.ID) != c.slot
	switch {
	case n.o.faults.dropParked && now >= c.until:
	case n.tooLate(c.env):
		n.later(func() { c.refuse(refusedDeadline, ErrDeadline) })
	case c.strayed:
		return false
	case nobody != nil:
		n.later(func() { c.refuse(refusedSelector, &SelectorError{*nobody}) })
	case now >= c.until:
		n.later(func() { c.refuse(refusedMoving, c.why) })
	default:
		return false
	}
	return true
}

// close answers everything that waits.
func (p *parking) close(n *Node) {
	for _, s := range slices.Sorted(maps.Keys(p.bySlot)) {
		for _, c := range p.bySlot[s] {
			n.later(func() { c.refuse(refusedUnavailable, errClosed) })
		}
	}
	clear(p.bySlot)
	p.count = 0
}
