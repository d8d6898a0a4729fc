package inbound

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/drivers/transport"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// settleWithin bounds how long a node that had the twin is asked what it has handled.
const settleWithin = 2 * time.Second

// delivery tells one link's words, in order. A frame is kept until the twin has handled it, wherever it is by then: nodes
// take some thirty frames before they have handled the first, so that this is bounded.
type delivery struct {
	a      *Acceptor
	scheme string
	twin   string
	number uint64
	remote string
	owner  *atomic.Value

	kept  [][]byte // that nobody has said to have handled
	first uint64   // number of the first of them
	next  uint64   // number of the frame that is told next
	node  string   // that took the last word
}

func newDelivery(a *Acceptor, t *Twin, number uint64, remote string, owner *atomic.Value) *delivery {
	return &delivery{a: a, scheme: t.Scheme, twin: t.ID, number: number, remote: remote, owner: owner, first: 1, next: 1}
}

// send tells frames, or only that the link is there. It goes on trying while the twin is on its way from node to node.
func (d *delivery) send(frames [][]byte) error {
	d.kept = append(d.kept, frames...)
	for first := true; first || d.next < d.first+uint64(len(d.kept)); first = false {
		if err := d.bring(); err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) bring() error {
	ctx, cancel := context.WithTimeout(d.a.ctx, deliverWithin)
	defer cancel()
	for {
		err := d.once(ctx, "")
		if err == nil {
			return nil
		}
		if !pause(ctx) {
			return fmt.Errorf("the twin does not take what the device says: %w", err)
		}
	}
}

func pause(ctx context.Context) bool {
	timer := time.NewTimer(retryEvery)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once tries it. From now on the node that has the twin may write: its answer may be here before its thanks. A reason ends the
// link, behind the last frame.
func (d *delivery) once(ctx context.Context, reason string) error {
	node, ok := d.a.o.Owner(d.twin)
	if !ok {
		return ErrNoTwin
	}
	if former := d.node; former != "" && former != node {
		d.node = ""
		d.settle(ctx, former)
	}
	d.owner.Store(node)
	at := int(d.next - d.first)
	m := d.word()
	m.Frames = slices.Clone(d.kept[at : at+min(len(d.kept)-at, maxBatch)])
	if reason != "" && at+len(m.Frames) == len(d.kept) {
		m.Closed, m.Reason = true, reason
	}
	taken, err := d.a.o.Deliver(ctx, node, m)
	if err != nil {
		return err
	}
	d.node = node
	if taken.GetNext() == 0 { // of a node that does not tell what it has handled
		taken = &actorv1.LinkTaken{Next: m.Sequence + uint64(len(m.Frames)), Handled: m.Sequence + uint64(len(m.Frames)) - 1}
	}
	d.drop(taken.Handled)
	d.next = min(max(taken.Next, d.first), d.first+uint64(len(d.kept)))
	return nil
}

func (d *delivery) word() *actorv1.Link {
	return &actorv1.Link{Twin: d.twin, Node: d.a.o.Node, Link: d.number, Remote: d.remote, Sequence: d.next, Unhandled: d.first}
}

// settle asks the node that had the twin what it has handled: the next one begins behind that. Where it is no more, what it has
// handled and not said is told again.
func (d *delivery) settle(ctx context.Context, former string) {
	if len(d.kept) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	m := d.word()
	m.Settle = true
	if taken, err := d.a.o.Deliver(ctx, former, m); err == nil {
		d.drop(taken.GetHandled())
	}
	d.next = d.first
}

// drop lets go of frames that were handled.
func (d *delivery) drop(through uint64) {
	if through < d.first {
		return
	}
	n := min(through-d.first+1, uint64(len(d.kept)))
	rest := copy(d.kept, d.kept[n:])
	clear(d.kept[rest:])
	d.kept = d.kept[:rest]
	d.first += n
	d.next = max(d.next, d.first)
}

// closed tells the end, and goes on until the last frame is handled, since the twin may be on its way. A node that does not
// hear of the end notices the silence.
func (d *delivery) closed(why string) {
	if why == "" {
		why = "closed"
	}
	whole, cancel := context.WithTimeout(d.a.ctx, deliverWithin)
	defer cancel()
	for {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.a.ctx), time.Second)
		_ = d.once(ctx, why)
		cancel()
		if len(d.kept) == 0 || !pause(whole) {
			break
		}
	}
	if n := len(d.kept); n > 0 {
		transport.Dropped(d.a.o.Metrics, d.scheme, "unhandled").Add(n)
		d.a.o.Logger.Warn("what a device said before its connection ended was not handled", "twin", d.twin, "frames", n)
	}
}
