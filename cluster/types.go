// Package cluster decides where actors live and brings calls to them: gossip finds nodes, rendezvous hashing proposes
// owners of slots, records in the store decide, a lease permits, a guard proves.
//
// It does not know storage: records and the raft state machine come in as interfaces that package pollux joins.
package cluster

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster/internal/slots"
)

// SlotCount is the number of slots of the class "": of actors that may live on every member.
const SlotCount = slots.Full

// Slot is a unit of ownership. Its class says which members may own it.
type Slot uint16

// KindNode is the kind of target that is a node itself, with the node's id: such envelopes go to its NodeHandler.
const KindNode = "node"

// Target is the address of a virtual actor, or of a node.
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
	// Slot is the target's, and Since the slot's, as the node saw them that sent the envelope on; the router sets them. A
	// node that knows of no classes leaves Slot 0, as do all for the class "": then the id says it.
	Slot  Slot
	Since uint64
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

// Transport brings envelopes to other nodes (package cluster/peer).
type Transport interface {
	// Send brings a call to a node. It never blocks; done is called exactly once, from any goroutine. Errors:
	// ErrUnavailable where it did not leave this node, ErrOverloaded where a limit is reached, ErrUnknown where the link
	// was lost after it left, and what the other node answered. The envelope must not be changed.
	Send(node string, env *Envelope, done func(Reply))
}

// NodeHandler takes what is sent to a node itself (KindNode). It must not block; done is called exactly once.
type NodeHandler func(env *Envelope, done func(Reply))

// Handler is the node's side that runs actors (package actors).
type Handler interface {
	// Handle takes a call for a slot that this node owns. It must not block; done is called exactly once, from any
	// goroutine.
	Handle(env *Envelope, done func(Reply))
	// Gained says that this node now owns the slots. Each has a Since that it never had here before. It must not block.
	Gained(owned []Ownership)
	// Release asks to let go of the slots: stop admitting, finish running calls, checkpoint; then done, exactly once, also
	// where Lost came meanwhile. After done nothing of the slots has any effect. It must not block.
	Release(slots []Slot, done func())
	// Lost says that this node may not act on the slots any more: they belong to somebody else, or the lease is over. Stop
	// without effect. It must not block. They may be gained again.
	Lost(slots []Slot)
}

// NotOwnerError says who owns the slot, as far as the node knows that was asked; Since 0: it does not know. It is
// ErrNotOwner and goes over the wire whole.
type NotOwnerError struct {
	Node  string
	Since uint64
}

func (e *NotOwnerError) Error() string {
	if e.Node == "" {
		return ErrNotOwner.Error()
	}
	return fmt.Sprintf("%v, %s is", ErrNotOwner, e.Node)
}

// Is makes it ErrNotOwner.
func (e *NotOwnerError) Is(target error) bool { return target == ErrNotOwner }

// SelectorError says that no member may have the target now. It is ErrSelector and ErrUnavailable.
type SelectorError struct{ Selector string }

func (e *SelectorError) Error() string { return "unavailable: no node satisfies " + e.Selector }

// Is makes it ErrSelector and ErrUnavailable.
func (e *SelectorError) Is(target error) bool {
	return target == ErrSelector || target == ErrUnavailable
}

var (
	// ErrSelector: no member satisfies the target's selector now; the call did not run.
	ErrSelector = errors.New("no node satisfies the selector")
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
