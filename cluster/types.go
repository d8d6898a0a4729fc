// Package cluster decides where actors live and brings calls to them: gossip finds nodes, rendezvous hashing proposes
// owners of slots, records in the store decide, a lease permits, a guard proves.
//
// It does not know storage: records and the raft state machine come in as interfaces that package pollux joins.
package cluster

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
)

// SlotCount is the number of slots of a selector class.
const SlotCount = 16384

// Slot is a unit of ownership within the selector class "" (every member).
type Slot uint16

// Target is the address of a virtual actor.
type Target struct {
	// Kind of actor, such as "twin".
	Kind string
	// ID is `project/name`.
	ID string
}

// Ownership is a slot's record as this node holds it. Guarding a transaction on (Table, Key, Value) proves that the
// owner is still the owner.
type Ownership struct {
	Slot  Slot
	Table string
	Key   string
	Value []byte
	// Since counts the owners that the slot has had, this one included: a later owner has a higher number.
	Since uint64
}

// Envelope is one call on its way to an actor.
type Envelope struct {
	// ID of the call; the same when it is tried again.
	ID     [16]byte
	Target Target
	// Message is the request; peers encode it, local handlers get it as it is and must not change it.
	Message proto.Message
	// Deadline after which nobody waits any more; zero: none.
	Deadline time.Time
	// Chain lists the targets whose calls led to this one, oldest first, as "kind:id".
	Chain []string
	// Principal on whose behalf the call is made.
	Principal string
}

// Reply answers an envelope. Err wraps one of the errors below, or is the actor's own.
type Reply struct {
	Message proto.Message
	Err     error
}

// Handler is the node's side that runs actors (package actors).
type Handler interface {
	// Handle takes a call for a slot that this node owns. It must not block; done is called exactly once, from any
	// goroutine.
	Handle(env *Envelope, done func(Reply))
	// Gained says that this node now owns the slots. It must not block.
	Gained(owned []Ownership)
	// Release asks to let go of the slots: stop admitting, finish running calls, checkpoint; then done. It must not block.
	Release(slots []Slot, done func())
	// Lost says that the slots belong to somebody else already: stop without effect. It must not block.
	Lost(slots []Slot)
}

var (
	// ErrNotOwner: the call reached a node that does not own the target's slot; it did not run.
	ErrNotOwner = errors.New("not the owner")
	// ErrUnavailable: no owner can be reached now; the call did not run.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnknown: whether the call ran cannot be told.
	ErrUnknown = errors.New("outcome unknown")
	// ErrOverloaded: a bound is reached; the call did not run.
	ErrOverloaded = errors.New("overloaded")
	// ErrCycle: the call's chain contains its target.
	ErrCycle = errors.New("call cycle")
	// ErrDeadline: the deadline passed before the call began; it did not run.
	ErrDeadline = errors.New("deadline passed")
)
