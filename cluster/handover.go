package cluster

import (
	"errors"
	"time"
)

// phase is how far this node and its handler are with a slot of this node's.
type phase uint8

const (
	// phaseNone: the handler does not have the slot.
	phaseNone phase = iota
	// phaseHeld: the handler has been told, or will be, in order, that it gained the slot.
	phaseHeld
	// phaseReleasing: the handler has been told to release it.
	phaseReleasing
	// phaseReleased: nothing of the slot has any effect here any more; its record is to be flipped.
	phaseReleased
)

// handover is the work on slots: gains, releases and flips of records.
type handover struct {
	phases [SlotSpace]phase
	// turn rises with every phase, so that a late callback is known as such.
	turn [SlotSpace]uint32
	// outstanding are the slots whose release the handler has not finished.
	outstanding slotSet
	released    slotSet // in phaseReleased
	gaining     int     // told to the handler, which has not returned yet

	toGain []Slot
	flips  [flipKinds]flips
	flying slotSet // in a transaction on its way, or in one whose outcome will be seen
}

// maxReleasing bounds the slots that are between held and flipped: the others go on working meanwhile.
const maxReleasing = 128

// flipKind is why a slot's record is flipped, and by whom.
type flipKind int

const (
	// flipReleased: own slots, after their release.
	flipReleased flipKind = iota
	// flipStale: slots of an earlier incarnation of this node; the directory's lock proves that it is gone.
	flipStale
	// flipOrphans: by the leader, slots without a living owner.
	flipOrphans
	// flipForced is never used but where a test wants to see it fail.
	flipForced
	flipKinds
)

// flips bounds the transactions of a kind.
type flips struct {
	inflight int
	paused   bool
	batch    int // slots of the next transaction: fewer after one failed
}

var flipBounds = [flipKinds]struct{ slots, inflight int }{
	flipReleased: {256, 2}, flipStale: {1024, 4}, flipOrphans: {1024, 4}, flipForced: {64, 1},
}

func (n *Node) setPhase(s Slot, p phase) {
	n.phases[s] = p
	n.turn[s]++
	n.released.set(s, p == phaseReleased)
	n.homeless.set(s, p == phaseReleased && n.targets[s] == "" && !n.shifting.has(s))
	if o := n.owners[s].Load(); o != nil && p != phaseHeld {
		o.admitted.Store(false)
	}
}

// drop ends a tenure whose record is gone; it says whether the handler must be told.
func (n *Node) drop(s Slot) bool {
	p := n.phases[s]
	if p == phaseNone {
		return false
	}
	n.setPhase(s, phaseNone)
	return p != phaseReleased
}

// gain gives a slot to the handler if it is this node's to act on.
func (n *Node) gain(s Slot) {
	if !n.suspended && n.own.has(s) && n.phases[s] == phaseNone && !n.outstanding.has(s) && !n.away.has(s) {
		n.setPhase(s, phaseHeld)
		n.toGain = append(n.toGain, s)
	}
}

func (n *Node) gainAll() {
	n.own.each(&n.away, func(s Slot) bool {
		n.gain(s)
		return true
	})
}

// loseAll takes every slot from the handler. Releases that run go on: nothing is flipped before they are done. The other
// slots' records are flipped before the handler gets them again, so that what it had proposed before is refused.
func (n *Node) loseAll() {
	var lost []Slot
	n.own.each(nil, func(s Slot) bool {
		switch n.phases[s] {
		case phaseHeld:
			n.setPhase(s, phaseReleased)
			lost = append(lost, s)
		case phaseReleasing:
			lost = append(lost, s)
		}
		return true
	})
	if lost != nil {
		n.later(func() { n.o.Handler.Lost(lost) })
	}
}

// tellHandler hands over what was gained. Calls are admitted only after the handler has returned.
func (n *Node) tellHandler() {
	if len(n.toGain) == 0 {
		return
	}
	type ticket struct {
		owner *owner
		turn  uint32
	}
	var owned []Ownership
	var tickets []ticket
	for _, s := range n.toGain {
		o := n.owners[s].Load()
		if n.phases[s] != phaseHeld || o == nil || !o.mine {
			continue
		}
		owned = append(owned, o.ownership(s))
		tickets = append(tickets, ticket{o, n.turn[s]})
	}
	n.toGain = n.toGain[:0]
	if owned == nil {
		return
	}
	n.gaining += len(owned)
	n.later(func() {
		n.o.Handler.Gained(owned)
		n.do(func() {
			n.gaining -= len(owned)
			for i, own := range owned {
				if s := own.Slot; n.turn[s] == tickets[i].turn {
					tickets[i].owner.admitted.Store(true)
					n.wake(s)
				}
			}
		})
	})
}

// startReleases begins hand-overs in the order of slots, a bounded number at a time. What the handler does not have is
// flipped at once.
func (n *Node) startReleases() {
	if n.away.count == 0 || !n.registered {
		return
	}
	n.away.each(&n.outstanding, func(s Slot) bool {
		if n.outstanding.count+n.released.count-n.homeless.count >= maxReleasing {
			return false
		}
		switch n.phases[s] {
		case phaseNone:
			n.setPhase(s, phaseReleased)
		case phaseHeld:
			n.release(s)
		}
		return true
	})
}

func (n *Node) release(s Slot) {
	n.setPhase(s, phaseReleasing)
	n.outstanding.set(s, true)
	n.recent.at(s, MoveReleasing)
	turn := n.turn[s]
	n.later(func() {
		n.o.Handler.Release([]Slot{s}, func() { n.do(func() { n.releaseDone(s, turn) }) })
	})
	if n.o.faults.dontAwait {
		n.setPhase(s, phaseReleased)
	}
}

func (n *Node) releaseDone(s Slot, turn uint32) {
	n.outstanding.set(s, false)
	if n.turn[s] == turn {
		n.setPhase(s, phaseReleased)
		n.recent.at(s, MoveFlipping)
	} else {
		n.gain(s)
	}
	n.revive()
}

// flip proposes transactions that give slots to their targets.
func (n *Node) flip(kind flipKind) {
	f := &n.flips[kind]
	for !f.paused && f.inflight < flipBounds[kind].inflight {
		slots := n.toFlip(kind, f.batch)
		if len(slots) == 0 {
			return
		}
		for _, s := range slots {
			n.flying.set(s, true)
		}
		f.inflight++
		t, unseen := n.flipTxn(kind, slots)
		n.commit(t, func(err error) {
			for _, s := range unseen {
				n.flying.set(s, false)
			}
			n.flipped(kind, slots, err)
		})
	}
}

// toFlip gives up to limit slots whose record this node is to flip now.
func (n *Node) toFlip(kind flipKind, limit int) []Slot {
	var from *slotSet
	switch kind {
	case flipReleased:
		from = &n.released
	case flipStale:
		if from = &n.stale; !n.self.alive() {
			return nil
		}
	case flipOrphans:
		if from = &n.orphans; !n.leading {
			return nil
		}
		if n.o.faults.neverFlip {
			from = &n.vacant
		}
	case flipForced:
		if from = &n.misplaced; !n.leading || !n.o.faults.forceRelease {
			return nil
		}
	}
	if from.count == 0 || !n.synced() {
		return nil
	}
	var slots []Slot
	shifts := 0
	from.each(&n.flying, func(s Slot) bool {
		target := n.targets[s]
		// Where nobody may have the slot, its record changes only for the actors that are to leave it.
		can := n.members[target] != nil
		if target == "" {
			can = n.shifting.has(s)
		}
		if can && !(kind == flipReleased && target == n.id && n.suspended) {
			slots = append(slots, s)
			shifts += len(n.shifts[s])
		}
		return len(slots) < limit && shifts < maxShifts
	})
	return slots
}

// flipTxn gives slots to their targets. Its guards say that each slot's record is as seen here, that the new owners are
// still members as they were, and, where not the owner itself flips, that the old owners are still what they were: dead.
// Of unseen slots no record changes: what leaves them had nowhere to live.
func (n *Node) flipTxn(kind flipKind, slots []Slot) (t Txn, unseen []Slot) {
	t = Txn{Guards: make([]TableRecord, 0, len(slots)+4), Writes: make([]TableRecord, 0, len(slots))}
	guarded := map[string]bool{}
	guard := func(id string) {
		if !guarded[id] {
			guarded[id] = true
			t.Guards = append(t.Guards, n.memberGuard(id))
		}
	}
	room := maxShifts
	for _, s := range slots {
		next := slotRecord{since: 1}
		was := record(TableSlot, slotKey(s), nil)
		if o := n.owners[s].Load(); o != nil {
			next, was.Value = o.slotRecord, o.value
			next.since++
			if kind != flipReleased {
				guard(o.node)
			}
		}
		if target := n.members[n.targets[s]]; target != nil {
			next.node, next.incarnation = target.ID, target.Incarnation
			guard(target.ID)
		}
		if !n.o.faults.noSlotGuard {
			t.Guards = append(t.Guards, was)
		}
		if next.node != "" {
			t.Writes = append(t.Writes, record(TableSlot, was.Key, next.encode()))
		} else {
			unseen = append(unseen, s)
		}
		if n.shifting.has(s) && (kind == flipReleased || n.targets[s] == "") {
			room -= n.shift(&t, s, room)
		}
	}
	return t, unseen
}

func (n *Node) flipped(kind flipKind, slots []Slot, err error) {
	f := &n.flips[kind]
	f.inflight--
	if err == nil {
		f.batch = min(2*f.batch, flipBounds[kind].slots)
		return // they stay in flying until their new record is seen
	}
	for _, s := range slots {
		n.flying.set(s, false)
	}
	if !errors.Is(err, ErrConflict) {
		n.o.Logger.Warn("slots not handed over yet", "slots", len(slots), "error", err)
	}
	// The records that were guarded have changed, or the log does not answer: look again in a moment, at fewer at a time.
	f.batch = max(1, f.batch/4)
	if !f.paused {
		f.paused = true
		n.after(retryAfter, func() { f.paused = false })
	}
}

// moved notes that a slot's record names another tenure.
func (n *Node) moved(s Slot, was, now *owner) {
	if was.node != now.node {
		n.recent.ended(n, s, was.node, now.node)
	}
	if _, awaited := n.progress[was.node]; awaited {
		n.progress[was.node] = n.o.Clock.Now()
	}
}

// stuckAfter is how long a member may have slots to hand over without handing over any.
const stuckAfter = 10 * time.Second
