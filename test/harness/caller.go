package harness

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/journal"
)

// Caller is a client that knows several nodes. It asks the next one only where it is certain that a call has not run.
type Caller struct {
	nodes func() []*Node
	turn  atomic.Uint64
}

// NewCaller returns a client of the nodes; which they are is asked before each try.
func NewCaller(nodes func() []*Node) *Caller { return &Caller{nodes: nodes} }

// between two tries, so that a cluster without quorum is not run down.
const between = 20 * time.Millisecond

// try calls until a node has done it, or may have, or ctx ends; with once, each node is asked once at most. Each try begins
// at another node.
func (c *Caller) try(ctx context.Context, once bool, call func(context.Context, *Node) (journal.Outcome, error)) (node string, o journal.Outcome, err error) {
	o, err = journal.Refused, errors.New("no node runs")
	turn := int(c.turn.Add(1))
	for i := 0; ; i++ {
		if nodes := c.nodes(); len(nodes) > 0 {
			n := nodes[(turn+i)%len(nodes)]
			node = n.Name
			if o, err = call(ctx, n); o != journal.Refused {
				return node, o, err
			}
		}
		if i+1 < len(c.nodes()) && ctx.Err() == nil {
			continue // another node may do it at once
		}
		if once {
			return node, o, err
		}
		select {
		case <-ctx.Done():
			return node, o, err
		case <-time.After(between):
		}
	}
}

// Invoke calls an action of a twin.
func (c *Caller) Invoke(ctx context.Context, twin, action string, input *structpb.Value) (node string, out *structpb.Value, o journal.Outcome, err error) {
	return c.invoke(ctx, false, twin, action, input)
}

// Probe is Invoke that asks each node once at most.
func (c *Caller) Probe(ctx context.Context, twin, action string, input *structpb.Value) (node string, o journal.Outcome, err error) {
	node, _, o, err = c.invoke(ctx, true, twin, action, input)
	return node, o, err
}

func (c *Caller) invoke(ctx context.Context, once bool, twin, action string, input *structpb.Value) (node string, out *structpb.Value, o journal.Outcome, err error) {
	node, o, err = c.try(ctx, once, func(ctx context.Context, n *Node) (journal.Outcome, error) {
		r, err := n.Twins().Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: twin, Action: action, Input: input}))
		if err != nil {
			return OutcomeOf(err), err
		}
		out = r.Msg.Output
		switch r.Msg.Outcome {
		case pb.Outcome_OUTCOME_DONE:
			return journal.Done, nil
		case pb.Outcome_OUTCOME_REJECTED:
			return journal.Unknown, errors.New("the device rejected it")
		}
		return journal.Unknown, errors.New(r.Msg.Outcome.String())
	})
	return node, out, o, err
}

// SetDesired asks a twin for a value.
func (c *Caller) SetDesired(ctx context.Context, twin, property string, value float64) (node string, o journal.Outcome, err error) {
	return c.try(ctx, false, func(ctx context.Context, n *Node) (journal.Outcome, error) {
		_, err := n.Twins().SetDesired(ctx, connect.NewRequest(&pb.SetDesiredRequest{Id: twin, Property: property, Value: structpb.NewNumberValue(value)}))
		return OutcomeOf(err), err
	})
}

// CreateTwin creates one. That it is there already counts as done.
func (c *Caller) CreateTwin(ctx context.Context, t *pb.Twin) (journal.Outcome, error) {
	_, o, err := c.try(ctx, false, func(ctx context.Context, n *Node) (journal.Outcome, error) {
		_, err := n.Twins().CreateTwin(ctx, connect.NewRequest(&pb.CreateTwinRequest{Twin: t}))
		if connect.CodeOf(err) == connect.CodeAlreadyExists {
			err = nil
		}
		return OutcomeOf(err), err
	})
	return o, err
}

// OutcomeOf tells from an error whether a call has run. Refused is said only where that is certain: no connection was
// made, or the node itself answered that it has not run.
func OutcomeOf(err error) journal.Outcome {
	if err == nil {
		return journal.Done
	}
	if connect.IsWireError(err) {
		switch connect.CodeOf(err) {
		case connect.CodeUnavailable, connect.CodeResourceExhausted:
			return journal.Refused
		case connect.CodeNotFound: // the node does not know the twin yet
			return journal.Refused
		}
		return journal.Unknown
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return journal.Refused
	}
	// The other side said goodbye before it took the request (HTTP/2 GOAWAY, REFUSED_STREAM).
	if text := err.Error(); strings.Contains(text, "REFUSED_STREAM") {
		return journal.Refused
	}
	return journal.Unknown
}
