package cluster

import (
	"context"
	"errors"
	"fmt"
)

var (
	// ErrNoMember: there is no such member.
	ErrNoMember = errors.New("no such member")
	// ErrState: the member's state, or that of the others, does not allow it.
	ErrState = errors.New("not possible now")
)

// Drain tells a node to hand its slots over and to take none; it returns when that is committed. It holds over restarts,
// until Undrain. ErrNoMember; ErrState where no other active member could take the slots.
func (n *Node) Drain(ctx context.Context, node string) error {
	return wait(ctx, "drain node "+node, func(done func(error)) { n.drain(node, done) })
}

// Undrain takes Drain back; it returns when that is committed.
func (n *Node) Undrain(ctx context.Context, node string) error {
	return wait(ctx, "undrain node "+node, func(done func(error)) { n.undrain(node, done) })
}

// Remove forgets a node that is dead or has left (ErrState otherwise). A process that still runs as this node ends.
func (n *Node) Remove(ctx context.Context, node string) error {
	return wait(ctx, "remove node "+node, func(done func(error)) { n.remove(node, done) })
}

// Leave is the planned stop of this node: others get its slots, one by one. It returns when this node owns none and has
// left, or when there is nobody to hand over to; with ErrUnavailable as soon as this node has no lease, or with ctx's
// error. Calls that come here afterwards are still passed on.
func (n *Node) Leave(ctx context.Context) error {
	return wait(ctx, "leave the cluster", n.startLeave)
}

func wait(ctx context.Context, what string, start func(done func(error))) error {
	got := make(chan error, 1)
	start(func(err error) { got <- err })
	var err error
	select {
	case err = <-got:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (n *Node) drain(node string, done func(error)) {
	n.doOr(done, func() {
		n.change(node, func(m *Member) error {
			switch {
			case !m.alive():
				return fmt.Errorf("it is %s: %w", m.State, ErrState)
			case m.wish != wishNone:
				return nil
			case !n.anotherActive(node):
				return fmt.Errorf("no other active node could take its slots: %w", ErrState)
			}
			m.State, m.wish = StateDraining, wishDrain
			return nil
		}, done)
	})
}

func (n *Node) undrain(node string, done func(error)) {
	n.doOr(done, func() {
		n.change(node, func(m *Member) error {
			if m.wish == wishLeave {
				return fmt.Errorf("it is about to stop: %w", ErrState)
			}
			m.wish = wishNone
			if m.State == StateDraining {
				m.State = StateActive
			}
			return nil
		}, done)
	})
}

// doOr is do, but answers also where the node is closed.
func (n *Node) doOr(done func(error), f func()) {
	n.mu.Lock()
	stopped := n.stopped
	n.mu.Unlock()
	if stopped {
		done(errClosed)
		return
	}
	n.do(f)
}

func (n *Node) anotherActive(than string) bool {
	for _, id := range n.ids {
		if id != than && n.members[id].State == StateActive {
			return true
		}
	}
	return false
}

// change edits a member's record until that is committed or edit says why not. done is called without mu.
func (n *Node) change(node string, edit func(*Member) error, done func(error)) {
	end := func(err error) { n.later(func() { done(err) }) }
	value, err := n.o.Records.Get(TableMember, node)
	if err == nil && value == nil {
		err = ErrNoMember
	}
	if err != nil {
		end(err)
		return
	}
	m, err := DecodeMember(node, value)
	if err == nil {
		err = edit(&m)
	}
	next := m.encode()
	if err != nil || string(next) == string(value) {
		end(err)
		return
	}
	t := Txn{Guards: []TableRecord{record(TableMember, node, value)}, Writes: []TableRecord{record(TableMember, node, next)}}
	n.commit(t, func(err error) {
		if err == nil {
			if node == n.id {
				n.learnSelf(m, next)
			}
			end(nil)
			return
		}
		n.after(retryAfter, func() { n.change(node, edit, done) })
	})
}

func (n *Node) remove(node string, done func(error)) {
	n.doOr(done, func() {
		end := func(err error) { n.later(func() { done(err) }) }
		value, err := n.o.Records.Get(TableMember, node)
		if err == nil && value == nil {
			err = ErrNoMember
		}
		var m Member
		if err == nil {
			m, err = DecodeMember(node, value)
		}
		if err == nil && m.State != StateDead && m.State != StateLeft {
			err = fmt.Errorf("it is %s, stop it first: %w", m.State, ErrState)
		}
		if err != nil {
			end(err)
			return
		}
		t := Txn{Guards: []TableRecord{record(TableMember, node, value)},
			Writes: []TableRecord{record(TableMember, node, nil), record(tableLease, node, nil)}}
		if m.Name != "" {
			t.Guards = append(t.Guards, record(tableCluster, "name/"+m.Name, []byte(node)))
			t.Writes = append(t.Writes, record(tableCluster, "name/"+m.Name, nil))
		}
		n.commit(t, func(err error) {
			if errors.Is(err, ErrConflict) {
				err = fmt.Errorf("its record changed meanwhile: %w", ErrState)
			}
			end(err)
		})
	})
}

func (n *Node) startLeave(done func(error)) {
	n.doOr(done, func() {
		if n.leave != nil {
			n.later(func() { done(fmt.Errorf("it is under way: %w", ErrState)) })
			return
		}
		n.leave = done
		if !n.somebodyStays() {
			n.endLeave(nil)
			return
		}
		n.change(n.id, func(m *Member) error {
			if !m.alive() {
				return fmt.Errorf("this node is %s: %w", m.State, ErrState)
			}
			m.State, m.wish = StateDraining, wishLeave
			return nil
		}, func(err error) {
			if err != nil {
				n.do(func() { n.endLeave(err) })
			}
		})
	})
}

// somebodyStays tells whether a member is there that could take this node's slots.
func (n *Node) somebodyStays() bool {
	for _, id := range n.ids {
		if m := n.members[id]; id != n.id && m.alive() && m.wish != wishLeave {
			return true
		}
	}
	return false
}

func (n *Node) endLeave(err error) {
	if done := n.leave; done != nil {
		n.leave = nil
		n.later(func() { done(err) })
	}
}

// checkLeave ends the planned stop when no slot is left here.
func (n *Node) checkLeave() {
	if n.leave == nil || n.leaving {
		return
	}
	if !n.LeaseValid() {
		n.endLeave(ErrNoQuorum) // nothing can be handed over
		return
	}
	if n.self.wish != wishLeave || !n.self.alive() {
		return
	}
	if !n.somebodyStays() {
		n.endLeave(nil)
		return
	}
	if n.own.count-n.homeless.count+n.lacking.count+n.outstanding.count > 0 {
		return
	}
	n.leaving = true
	n.change(n.id, func(m *Member) error {
		if m.alive() {
			m.State = StateLeft
		}
		return nil
	}, func(err error) { n.do(func() { n.endLeave(err) }) })
}
