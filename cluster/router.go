package cluster

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Why calls were refused before they ran.
const (
	refusedCycle = iota
	refusedDeadline
	refusedUnavailable
	refusedLease
	refusedNotOwner
	refusedParked
	refusedMoving
	refusedSelector
	refusals
)

var refusalNames = [refusals]string{"cycle", "deadline", "unavailable", "lease", "not_owner", "parked_full", "moving", "selector"}

// counters of the router.
type counters struct {
	refused   [refusals]atomic.Uint64
	forwarded atomic.Uint64
	received  atomic.Uint64
	retried   atomic.Uint64
	parked    atomic.Uint64
}

const (
	// maxChain bounds how deep actors may call each other.
	maxChain = 32
	// maxTries bounds how often a call is brought to an owner; again only to a newer one, after the one before has said
	// that it did not run there. A call that waits for a driver to be loaded sees its slot move often while nodes are
	// restarted one after the other.
	maxTries = 8
)

// call is an envelope on its way through the router.
type call struct {
	n    *Node
	env  *Envelope
	done func(Reply)
	slot Slot
	// received: another node sent it here, so it is not sent on.
	received bool
	tries    int
	// since is that of the owner to which it was brought last; here: that was this node.
	since uint64
	here  bool
	// need is the slot's since from which a parked call goes on, until is when it is answered at the latest.
	need  uint64
	until time.Duration
	why   error
	// strayed: the target of a parked call does not live in its slot any more.
	strayed bool
	// pause is until when a parked call without need waits; lag is until when it is brought again to an owner that has
	// another view of where its target lives.
	pause, lag time.Duration
	// reply is replied, made once.
	reply func(Reply)
}

// calls are used again: a call to a local actor costs no allocation here.
var calls sync.Pool

func (n *Node) newCall(env *Envelope, done func(Reply)) *call {
	c, _ := calls.Get().(*call)
	if c == nil {
		c = new(call)
		c.reply = c.replied
	}
	c.n, c.env, c.done = n, env, done
	return c
}

func (c *call) finish(r Reply) {
	done := c.done
	if c.why == nil { // it was never parked
		c.env, c.done, c.received, c.here, c.tries = nil, nil, false, false, 0
	} else {
		*c = call{reply: c.reply}
	}
	calls.Put(c)
	done(r)
}

func (c *call) refuse(why int, err error) {
	c.n.count.refused[why].Add(1)
	c.finish(Reply{Err: fmt.Errorf("%s %s: %w", c.env.Target.Kind, c.env.Target.ID, err)})
}

// Call passes an envelope to the owner of its target's slot, here or on another node. It does not block; done is called
// exactly once, from any goroutine, perhaps before Call returns. The envelope must not be changed until then. A call that
// ends with ErrUnavailable, ErrOverloaded, ErrCycle, ErrDeadline or ErrNotOwner did not run; one that ends with
// ErrUnknown may have.
func (n *Node) Call(env *Envelope, done func(Reply)) {
	if err := checkChain(env); err != nil {
		n.refuse(refusedCycle, err, done)
		return
	}
	if n.tooLate(env) {
		n.refuse(refusedDeadline, fmt.Errorf("%s %s: %w", env.Target.Kind, env.Target.ID, ErrDeadline), done)
		return
	}
	if env.Target.Kind == KindNode {
		n.SendTo(env.Target.ID, env, done)
		return
	}
	c := n.newCall(env, done)
	c.slot = n.SlotOf(env.Target.ID)
	c.route()
}

// SendTo passes an envelope to a node's own NodeHandler. It does not block; done is called exactly once.
func (n *Node) SendTo(node string, env *Envelope, done func(Reply)) {
	switch {
	case node == n.id && n.o.NodeHandler != nil:
		n.o.NodeHandler(env, done)
	case node != n.id && n.o.Transport != nil:
		out := *env
		out.Target = Target{KindNode, node}
		n.count.forwarded.Add(1)
		n.o.Transport.Send(node, &out, done)
	default:
		n.refuse(refusedUnavailable, fmt.Errorf("node %s: %w", node, ErrUnavailable), done)
	}
}

// Receive takes an envelope that another node sent here: it runs here, waits while the slot is on its way here, or is
// answered with a *NotOwnerError. It does not block; done is called exactly once.
func (n *Node) Receive(env *Envelope, done func(Reply)) {
	n.count.received.Add(1)
	switch {
	case n.tooLate(env):
		n.refuse(refusedDeadline, fmt.Errorf("%s %s: %w", env.Target.Kind, env.Target.ID, ErrDeadline), done)
	case env.Target.Kind != KindNode:
		c := n.newCall(env, done)
		c.received = true
		if c.slot = env.Slot; c.slot == 0 {
			c.slot = SlotOf(env.Target.ID)
		}
		if c.stays() {
			c.route()
		}
	case env.Target.ID == n.id && n.o.NodeHandler != nil:
		n.o.NodeHandler(env, done)
	default:
		n.refuse(refusedUnavailable, fmt.Errorf("this node is not %s: %w", env.Target.ID, ErrUnavailable), done)
	}
}

func (n *Node) tooLate(env *Envelope) bool {
	return !env.Deadline.IsZero() && n.o.wall().After(env.Deadline)
}

// ErrNoQuorum is ErrUnavailable because this node has no lease: it may be cut off from the others.
var ErrNoQuorum = fmt.Errorf("no quorum, this node has no lease: %w", ErrUnavailable)

var (
	errNoOwner = fmt.Errorf("its slot has no owner: %w", ErrUnavailable)
	errMoving  = fmt.Errorf("its slot is moving: %w", ErrNotOwner)
)

// route brings a call to the owner that the table names now, behind those that wait for it.
func (c *call) route() {
	if c.n.ahead[c.slot].Load() > 0 {
		c.pause = 0
		c.park(0, parkMove, errMoving)
		return
	}
	c.bring()
}

// stays tells whether the target still lives in the call's slot. If not, the call goes to the one where it does, or back
// to who sent it.
func (c *call) stays() bool {
	c.strayed = false
	slot := c.n.SlotOf(c.env.Target.ID)
	switch {
	case slot == c.slot:
		return true
	case c.received:
		since := c.env.Since
		if o := c.n.owners[c.slot].Load(); o != nil {
			since = max(since, o.since)
		}
		c.refuse(refusedNotOwner, &NotOwnerError{Since: since})
	default:
		c.slot, c.tries, c.lag = slot, 0, 0
		c.route()
	}
	return false
}

// shifts tells whether the target is about to leave the slot.
func (c *call) shifts() bool {
	shift, err := c.n.o.Records.Get(TableShift, ShiftKey(c.slot, c.env.Target.ID))
	return err == nil && shift != nil
}

// again brings a call that was parked.
func (c *call) again() {
	if c.stays() {
		c.bring()
	}
}

// disagrees waits a moment, where the router here and the slot's owner or its handler, who have seen the same record of the
// slot, do not agree on whether the target lives there: one of them has not seen yet what the other has.
func (c *call) disagrees() {
	now := c.n.o.Clock.Now()
	if c.lag == 0 {
		c.lag = now + parkRecord
	}
	if now >= c.lag {
		c.refuse(refusedMoving, errMoving)
		return
	}
	c.tries--
	c.pause = now + sweepEvery
	c.park(0, c.lag-now, errMoving)
}

func (c *call) bring() {
	n := c.n
	o := n.owners[c.slot].Load()
	leased := n.LeaseValid()
	nobody := n.unmetBy(c.slot)
	if nobody != nil && (!leased || o != nil && o.admitted.Load()) {
		nobody = nil
	}
	switch {
	case nobody != nil && (c.shifts() || n.SlotOf(c.env.Target.ID) != c.slot):
		c.park(math.MaxUint64, parkRecord, errMoving) // until it lives elsewhere
	case nobody != nil:
		c.refuse(refusedSelector, &SelectorError{*nobody})
	case c.received && (o == nil || o.since < c.env.Since):
		c.park(c.env.Since, parkRecord, errNoOwner)
	case o != nil && o.admitted.Load() && leased:
		c.since, c.here = o.since, true
		c.tries++
		n.o.Handler.Handle(c.env, c.reply)
	case o == nil && c.slot.Class() != 0 && leased:
		c.park(1, parkRecord, errNoOwner) // the class is new
	case o == nil:
		c.refuse(refusedUnavailable, errNoOwner)
	case o.mine && !n.leased.Load():
		c.parkHere(o)
	case !leased && (o.mine || !n.passing.Load()):
		c.refuse(refusedLease, ErrNoQuorum)
	case o.node == n.id:
		c.parkHere(o)
	case c.received:
		c.refuse(refusedNotOwner, &NotOwnerError{o.node, o.since})
	case n.o.Transport == nil:
		c.refuse(refusedUnavailable, ErrUnavailable)
	default:
		c.since, c.here = o.since, false
		c.tries++
		out := *c.env
		out.Since = o.since
		if c.slot.Class() != 0 {
			out.Slot = c.slot
		}
		n.count.forwarded.Add(1)
		n.o.Transport.Send(o.node, &out, c.reply)
	}
}

// replied takes the answer of an owner. Only one that says that the call did not run there, for the owner's sake, brings it
// to the next.
func (c *call) replied(r Reply) {
	if r.Err == nil {
		c.finish(r)
		return
	}
	if c.here && errors.Is(r.Err, ErrNotOwner) {
		r.Err = c.n.notOwner(c.slot, c.since)
	}
	var other *NotOwnerError
	newer := errors.As(r.Err, &other)
	if newer && !c.received && other.Since != 0 && other.Since <= c.since {
		c.disagrees()
		return
	}
	c.lag = 0
	switch {
	case newer && c.received:
		c.n.count.refused[refusedNotOwner].Add(1)
		c.finish(r)
	case c.tries >= maxTries:
		if errors.Is(r.Err, ErrNotOwner) {
			c.refuse(refusedMoving, errMoving)
			return
		}
		c.finish(r)
	case newer:
		c.park(max(c.since+1, other.Since), parkMove, errMoving)
	case errors.Is(r.Err, ErrNotOwner):
		c.park(c.since+1, parkMove, errMoving)
	case !c.here && errors.Is(r.Err, ErrUnavailable) && !errors.Is(r.Err, ErrUnknown):
		c.park(c.since+1, parkUnreached, r.Err)
	default:
		c.finish(r)
	}
}

// notOwner says what follows where the handler does not take a call for a slot that was this node's at since: who owns the
// slot now, or soon will. Where that is still this tenure, the handler has seen that the target lives elsewhere before
// the router has.
func (n *Node) notOwner(s Slot, since uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.owners[s].Load()
	switch {
	case o != nil && o.since > since:
		return &NotOwnerError{o.node, o.since}
	case n.phases[s] == phaseHeld:
		return &NotOwnerError{n.id, since}
	}
	return &NotOwnerError{n.targets[s], since + 1}
}

func checkChain(env *Envelope) error {
	if len(env.Chain) == 0 {
		return nil
	}
	self := env.Target.Kind + ":" + env.Target.ID
	if slices.Contains(env.Chain, self) {
		return fmt.Errorf("%s -> %s: %w", strings.Join(env.Chain, " -> "), self, ErrCycle)
	}
	if len(env.Chain) >= maxChain {
		return fmt.Errorf("%s: more than %d calls deep: %w", self, maxChain, ErrCycle)
	}
	return nil
}

func (n *Node) refuse(why int, err error, done func(Reply)) {
	n.count.refused[why].Add(1)
	done(Reply{Err: err})
}

// Refused counts the calls refused by the router since start, by reason.
func (n *Node) Refused() map[string]uint64 {
	count := make(map[string]uint64, refusals)
	for why, name := range refusalNames {
		count[name] = n.count.refused[why].Load()
	}
	return count
}

// Stats are counts since start, but for Parked.
type Stats struct {
	// Forwarded envelopes went to other nodes, Received came from them.
	Forwarded, Received uint64
	// Waited calls were parked, Retried ones went on afterwards.
	Waited, Retried uint64
	// Parked calls wait now for a slot that is moving.
	Parked int
	// Moves of slots between nodes that were seen.
	Moves uint64
	// Releasing slots are being handed over by this node now.
	Releasing int
}

// Stats reads the counters.
func (n *Node) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return Stats{n.count.forwarded.Load(), n.count.received.Load(), n.count.parked.Load(), n.count.retried.Load(),
		n.park.count, n.recent.total, n.outstanding.count + n.released.count}
}
