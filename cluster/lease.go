package cluster

import (
	"errors"
	"fmt"
	"time"
)

// lease is this node's permission to act on its slots: a committed grant, guarded by the node's member record, good from
// the moment at which it was asked for.
type lease struct {
	registered bool
	// self is this node's record as last seen or written, and its bytes.
	self      Member
	selfValue []byte

	grants  uint64 // asked for
	granted uint64 // got
	asking  int
	// renewStop keeps the next renewal, due at renewAt, from coming; nil: none is due.
	renewStop func() bool
	renewAt   time.Duration
	endTimer  bool
	// warned is when a renewal's failure was last logged; 0: it has not failed since the last grant.
	warned time.Duration
	// suspended: the handler has been told that all slots are lost.
	suspended bool
	reviving  bool

	// answered is when the latest transaction was asked for that the log has answered; logSince is since when it has
	// answered without a long gap.
	answered, logSince time.Duration
}

const (
	// maxGrants bounds the grants on their way: one that hangs does not keep the next.
	maxGrants = 4
	// retryAfter is how soon a transaction is tried again that failed.
	retryAfter = 50 * time.Millisecond
)

// LeaseValid tells whether this node may act on its slots now. It is asked right before each device write.
func (n *Node) LeaseValid() bool {
	return int64(n.o.Clock.Now()) < n.until.Load() || n.o.faults.ignoreLease
}

// LeaseLeft is the time that the lease still has, negative where it is over.
func (n *Node) LeaseLeft() time.Duration { return time.Duration(n.until.Load()) - n.o.Clock.Now() }

// register commits the member record. An incarnation that is not above the recorded one is refused: the data
// directory is a copy, or was put back.
func (n *Node) register() {
	me := n.o.Self
	was, err := n.o.Records.Get(TableMember, n.id)
	if err != nil {
		n.failStart(fmt.Errorf("register node: %w", err))
		return
	}
	me.State, me.wish, me.Revival = StateActive, wishNone, 0
	var before Member
	if was != nil {
		if before, err = DecodeMember(n.id, was); err != nil {
			n.failStart(fmt.Errorf("register node: %w", err))
			return
		}
		if before.wish == wishDrain {
			me.State, me.wish = StateDraining, wishDrain
		}
		if before.Incarnation == me.Incarnation && before.boot == me.boot {
			// An earlier try was committed, and others may have changed the record since.
			n.registerDone(before, was)
			return
		}
		if before.Incarnation >= me.Incarnation {
			n.failStart(fmt.Errorf("register node %s: incarnation %d is not above %d, which was there before: is this a copy of a data directory?",
				n.id, me.Incarnation, before.Incarnation))
			return
		}
	}
	// The first grant comes with it: from then on others may give slots to this node, and its silence counts.
	asked := n.o.Clock.Now()
	t := Txn{Guards: []TableRecord{record(TableMember, n.id, was)}, Writes: []TableRecord{record(TableMember, n.id, me.encode()), n.nextGrant()}}
	if err := n.takeName(&t, before.Name); err != nil {
		n.failStart(fmt.Errorf("register node: %w", err))
		return
	}
	n.commit(t, func(err error) {
		switch {
		case err == nil:
			n.registerDone(me, me.encode())
			n.got(asked)
		case n.begun != nil:
			n.after(retryAfter, n.register)
		}
	})
}

// takeName adds to a registration that no other node has the name.
func (n *Node) takeName(t *Txn, before string) error {
	key := func(name string) string { return "name/" + name }
	name := n.o.Self.Name
	if before != "" && before != name {
		t.Writes = append(t.Writes, record(tableCluster, key(before), nil))
	}
	if name == "" {
		return nil
	}
	holder, err := n.o.Records.Get(tableCluster, key(name))
	if err != nil {
		return err
	}
	if holder != nil && string(holder) != n.id {
		other, err := n.o.Records.Get(TableMember, string(holder))
		if err != nil {
			return err
		}
		if other != nil {
			return fmt.Errorf("the name %q belongs to node %s: choose another, or remove that node", name, holder)
		}
	}
	t.Guards = append(t.Guards, record(tableCluster, key(name), holder))
	t.Writes = append(t.Writes, record(tableCluster, key(name), []byte(n.id)))
	return nil
}

func (n *Node) registerDone(me Member, value []byte) {
	n.registered = true
	n.learnSelf(me, value)
	n.renew()
}

// learnSelf takes this node's own record, from a watch or read. Watches may be behind what was read.
func (n *Node) learnSelf(m Member, value []byte) {
	known := n.self
	switch {
	case !n.registered, m.Incarnation < n.o.Self.Incarnation:
		return
	case m.Incarnation > n.o.Self.Incarnation:
		n.end(fmt.Errorf("incarnation %d of this node has taken over from %d: is its data directory a copy?", m.Incarnation, n.o.Self.Incarnation))
		return
	case n.selfValue != nil && (m.Revival < known.Revival || m.Revival == known.Revival && known.State == StateDead && m.State != StateDead),
		n.selfValue != nil && known.State == StateLeft && m.State != StateLeft:
		return
	}
	n.self, n.selfValue = m, value
	if !m.alive() {
		n.until.Store(0)
		n.passing.Store(m.State == StateLeft)
		if m.State != known.State && m.State != StateLeft {
			n.o.Logger.Warn("this node is "+m.State.String()+" in the member table", "revival", m.Revival)
		}
	}
	n.revive()
}

// refreshSelf reads the own record after a guard on it did not hold.
func (n *Node) refreshSelf() {
	value, err := n.o.Records.Get(TableMember, n.id)
	switch {
	case err != nil || !n.registered:
	case value == nil:
		n.end(errors.New("this node was removed from the cluster"))
	default:
		if m, err := DecodeMember(n.id, value); err == nil {
			n.learnSelf(m, value)
		}
	}
}

// revive brings this node back after it was declared dead, once nothing of before can have any effect.
func (n *Node) revive() {
	if n.self.State != StateDead || n.reviving || n.ended != nil || n.outstanding.count > 0 {
		return
	}
	n.reviving = true
	me := n.self
	me.Revival++
	me.State = StateActive
	if me.wish == wishDrain || n.leave != nil {
		me.State = StateDraining
	} else {
		me.wish = wishNone
	}
	value := me.encode()
	asked := n.o.Clock.Now()
	t := Txn{Guards: []TableRecord{record(TableMember, n.id, n.selfValue)}, Writes: []TableRecord{record(TableMember, n.id, value), n.nextGrant()}}
	n.commit(t, func(err error) {
		if err == nil {
			n.reviving = false
			n.learnSelf(me, value)
			n.got(asked)
			n.renew()
			return
		}
		n.after(retryAfter, func() {
			n.reviving = false
			n.refreshSelf()
			n.revive()
		})
	})
}

// renew asks for a grant. The lease counts from before the asking: what passed since then, a slow disk or a suspend,
// shortens it. A node that may not have one asks something that is refused, to know that the log works.
func (n *Node) renew() {
	if n.ended != nil || !n.registered {
		return
	}
	if n.renewStop != nil {
		n.renewStop()
		n.renewStop = nil
	}
	n.renewIn(n.o.Renew)
	if n.asking >= maxGrants {
		return
	}
	n.asking++
	asked := n.o.Clock.Now()
	t := Txn{Guards: []TableRecord{record(TableMember, n.id, []byte{0})}, Quiet: true}
	if n.self.alive() {
		t.Guards[0].Value = n.selfValue
		t.Writes = []TableRecord{n.nextGrant()}
	}
	alive := n.self.alive()
	n.commit(t, func(err error) {
		n.asking--
		conflict := errors.Is(err, ErrConflict)
		if err == nil || conflict {
			n.logAnswered(asked)
		}
		switch {
		case err == nil:
			n.got(asked)
		case conflict && alive:
			was := string(n.selfValue)
			n.refreshSelf()
			if n.self.alive() && string(n.selfValue) != was {
				n.renew()
			} else {
				n.renewIn(retryAfter)
			}
		case conflict:
			n.refreshSelf()
		case err != nil:
			n.notRenewed(err)
		}
	})
}

// nextGrant is the write of a grant; each is another value.
func (n *Node) nextGrant() TableRecord {
	n.grants++
	return record(tableLease, n.id, grant{n.o.Self.Incarnation, n.grants}.encode())
}

// got takes a grant that was asked for then.
func (n *Node) got(asked time.Duration) {
	if !n.self.alive() || n.ended != nil {
		return
	}
	n.granted++
	n.extend(asked + n.o.Duration)
	if n.warned > 0 {
		n.warned = 0
		n.o.Logger.Info("lease renewed again")
	}
}

// notRenewed says so once, and then once a minute.
func (n *Node) notRenewed(err error) {
	now := n.o.Clock.Now()
	if n.warned > 0 && now-n.warned < time.Minute {
		return
	}
	n.warned = now
	n.o.Logger.Warn("lease not renewed", "error", err, "left", n.LeaseLeft().Round(time.Millisecond))
}

// renewIn sees to it that a renewal is due within d.
func (n *Node) renewIn(d time.Duration) {
	at := n.o.Clock.Now() + d
	if n.renewStop != nil {
		if at >= n.renewAt {
			return
		}
		n.renewStop()
	}
	n.renewAt = at
	n.renewStop = n.after(d, func() {
		n.renewStop = nil
		n.renew()
	})
}

// logAnswered notes that a transaction of this node, asked for then, has gone through the log.
func (n *Node) logAnswered(asked time.Duration) {
	if asked <= n.answered && n.answered > 0 {
		return
	}
	if n.answered == 0 || asked-n.answered > n.o.Duration/2 {
		n.logSince = n.o.Clock.Now()
	}
	n.answered = asked
}

// extend makes the lease good until then, and watches its end.
func (n *Node) extend(until time.Duration) {
	if int64(until) <= n.until.Load() {
		return
	}
	n.until.Store(int64(until))
	n.leased.Store(true)
	if !n.endTimer {
		n.endTimer = true
		n.leaseTimer()
	}
}

func (n *Node) leaseTimer() {
	n.after(max(n.LeaseLeft(), time.Millisecond), func() {
		if n.LeaseLeft() > 0 {
			n.leaseTimer()
			return
		}
		n.endTimer = false // checkLease does the rest
	})
}

// checkLease takes all slots from the handler when the lease is over, and gives them back with the next one. A node
// without others keeps them, and only refuses meanwhile: nobody can have taken them.
func (n *Node) checkLease() {
	if n.LeaseValid() && n.self.alive() && n.ended == nil {
		if n.suspended {
			n.suspended = false
			if n.own.count > 0 {
				n.o.Logger.Info("there is a lease again", "slots", n.own.count)
			}
			n.gainAll()
		}
		return
	}
	if n.suspended || n.others == 0 && n.self.alive() && n.ended == nil {
		return
	}
	n.suspended = true
	if n.own.count > 0 && n.ended == nil {
		n.o.Logger.Warn("the lease is over: this node serves no slot until it has one again", "slots", n.own.count, "state", n.self.State.String())
	}
	n.loseAll()
}
