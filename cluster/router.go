package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Why calls were refused before they ran.
const (
	refusedCycle = iota
	refusedDeadline
	refusedUnavailable
	refusedLease
	refusals
)

var refusalNames = [refusals]string{"cycle", "deadline", "unavailable", "lease"}

// maxChain bounds how deep actors may call each other.
const maxChain = 32

// Call passes an envelope to the owner of its target's slot. It does not block; done is called exactly once, from any
// goroutine, perhaps before Call returns. A call that was refused here did not run.
func (n *Node) Call(env *Envelope, done func(Reply)) {
	if err := checkChain(env); err != nil {
		n.refuse(refusedCycle, err, done)
		return
	}
	if !env.Deadline.IsZero() && time.Now().After(env.Deadline) {
		n.refuse(refusedDeadline, fmt.Errorf("%s %s: %w", env.Target.Kind, env.Target.ID, ErrDeadline), done)
		return
	}
	if env.Target.Kind == KindNode {
		n.SendTo(env.Target.ID, env, done)
		return
	}
	slot := SlotOf(env.Target.ID)
	o := n.owners[slot].Load()
	switch {
	case !n.own(o):
		n.refuse(refusedUnavailable, fmt.Errorf("%s %s: slot %d: %w", env.Target.Kind, env.Target.ID, slot, ErrUnavailable), done)
	case !n.lease.valid():
		n.refuse(refusedLease, fmt.Errorf("%s %s: this node has no lease now: %w", env.Target.Kind, env.Target.ID, ErrUnavailable), done)
	default:
		n.o.Handler.Handle(env, done)
	}
}

// SendTo passes an envelope to a node's own NodeHandler. It does not block; done is called exactly once.
func (n *Node) SendTo(node string, env *Envelope, done func(Reply)) {
	switch {
	case node == n.o.Self.ID && n.o.NodeHandler != nil:
		n.o.NodeHandler(env, done)
	case node != n.o.Self.ID && n.o.Transport != nil:
		out := *env
		out.Target = Target{KindNode, node}
		n.o.Transport.Send(node, &out, done)
	default:
		n.refuse(refusedUnavailable, fmt.Errorf("node %s: %w", node, ErrUnavailable), done)
	}
}

// Receive takes an envelope that another node sent here. It does not block; done is called exactly once.
func (n *Node) Receive(env *Envelope, done func(Reply)) { n.Call(env, done) }

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
	n.refused[why].Add(1)
	done(Reply{Err: err})
}

// Refused counts the calls refused by the router since start, by reason.
func (n *Node) Refused() map[string]uint64 {
	count := make(map[string]uint64, refusals)
	for why, name := range refusalNames {
		count[name] = n.refused[why].Load()
	}
	return count
}
