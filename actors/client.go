package actors

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/proto"
)

// Client calls twins through the router, wherever they live. Safe for concurrent use.
type Client struct{ e *Engine }

// defaultDeadline is how long a call waits in all where its context sets no deadline.
const defaultDeadline = time.Minute

// newCallID makes the id by which a call that is tried again is known.
func newCallID() (id [16]byte) {
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// call sends a message and waits for the reply, or for ctx.
func (c *Client) call(ctx context.Context, id string, m proto.Message, principal string) (proto.Message, error) {
	return c.callFrom(ctx, caller{principal: principal}, id, m)
}

// callFrom is call on behalf of somebody.
func (c *Client) callFrom(ctx context.Context, from caller, id string, m proto.Message) (proto.Message, error) {
	env := &cluster.Envelope{ID: newCallID(), Target: cluster.Target{Kind: "twin", ID: id}, Message: m,
		Principal: from.principal, Chain: from.chain}
	w := waiters.Get().(*waiter)
	var late <-chan time.Time // nil where ctx tells
	began := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline, late = began.Add(defaultDeadline), w.within(defaultDeadline)
	}
	env.Deadline = deadline
	for wait := catchUpMin; ; wait = min(2*wait, catchUpMax) {
		done := w.reply
		var p *parking
		if from.parks {
			p = &parking{w: &c.e.waits}
			done = func(r cluster.Reply) {
				p.wake()
				w.got <- r
			}
		}
		c.e.cluster.Call(env, done)
		p.rest()
		var why error
		select {
		case r := <-w.got:
			if !c.e.ahead(id, r.Err) || time.Since(began) > catchUp {
				w.free()
				return r.Message, arrived(r.Err)
			}
		case <-ctx.Done():
			why = ctx.Err()
		case <-late:
			why = context.DeadlineExceeded
		}
		if why != nil {
			p.wake()
			w.still()
			// The call may have run, and may yet run.
			return nil, fmt.Errorf("call twin %s: %w: %w", id, cluster.ErrUnknown, why)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			w.free()
			return nil, fmt.Errorf("call twin %s: %w: %w", id, ErrNotFound, ctx.Err())
		}
	}
}

// For how long a call waits for a twin that its owner has not heard of yet, and how long between two tries.
const (
	catchUp    = 5 * time.Second
	catchUpMin = 2 * time.Millisecond
	catchUpMax = 100 * time.Millisecond
)

// ahead says whether a twin's owner did not find a twin that this node knows: one of the two has not applied the log as
// far as the other.
func (e *Engine) ahead(id string, err error) bool {
	if !errors.Is(err, ErrNotFound) {
		return false
	}
	_, ok, err := e.store.Get(tableTwins, id)
	return err == nil && ok
}

// Stored gives a twin's state as last committed; false: there is none. The caller must not change it.
func (c *Client) Stored(id string) (*state.Record, bool) {
	v, ok := c.e.world.View(id)
	if !ok {
		return nil, false
	}
	return v.State, true
}

// Topics gives the durable topics, wherever they live.
func (c *Client) Topics() *topic.Host { return c.e.streams }

// Invoke runs an action. Its error is a *CommandError where the command was rejected, timed out, or how it ended is
// not known; any other error, but cluster.ErrUnknown, says that it did not run.
func (c *Client) Invoke(ctx context.Context, req *pb.InvokeRequest, principal string) (*pb.InvokeResponse, error) {
	id, err := CanonicalID(req.Id)
	if err != nil {
		return nil, err
	}
	m, err := c.call(ctx, id, req, principal)
	if err != nil {
		if errors.Is(err, cluster.ErrUnknown) {
			return nil, &CommandError{Outcome: pb.Outcome_OUTCOME_UNKNOWN, Message: err.Error()}
		}
		return nil, err
	}
	r, ok := m.(*actorv1.CommandResult)
	if !ok {
		return nil, fmt.Errorf("invoke %s on %s: unexpected reply %T", req.Action, id, m)
	}
	switch r.Outcome {
	case pb.Outcome_OUTCOME_DONE, pb.Outcome_OUTCOME_QUEUED:
		return &pb.InvokeResponse{Output: r.Output, Outcome: r.Outcome, CommandId: r.CommandId}, nil
	}
	return nil, &CommandError{Outcome: r.Outcome, Code: r.Code, Message: r.Message, Retryable: r.Retryable}
}

// SetDesired commits what is asked of a property, and returns then; the device is told afterwards.
func (c *Client) SetDesired(ctx context.Context, req *pb.SetDesiredRequest, principal string) (*pb.SetDesiredResponse, error) {
	id, err := CanonicalID(req.Id)
	if err != nil {
		return nil, err
	}
	m, err := c.call(ctx, id, req, principal)
	if err != nil {
		return nil, err
	}
	r, ok := m.(*pb.SetDesiredResponse)
	if !ok {
		return nil, fmt.Errorf("set %s of %s: unexpected reply %T", req.Property, id, m)
	}
	return r, nil
}

// State gives what the twin knows now; model includes the refined Thing Model.
func (c *Client) State(ctx context.Context, id string, model bool) (*pb.TwinState, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	m, err := c.call(ctx, id, &actorv1.StateQuery{Model: model}, "")
	if err != nil {
		return nil, err
	}
	s, ok := m.(*pb.TwinState)
	if !ok {
		return nil, fmt.Errorf("state of %s: unexpected reply %T", id, m)
	}
	return s, nil
}

// Watch begins to watch the twins that match, in the projects that the caller may read; projects nil: all. Close the
// subscription; it also ends with ctx.
func (c *Client) Watch(ctx context.Context, req *pb.WatchTwinsRequest, projects func(string) bool) (*Subscription, error) {
	s, err := newSubscription(c.e, req, projects)
	if err != nil {
		return nil, err
	}
	if !c.e.hub.add(s) {
		return nil, fmt.Errorf("watch twins: %d watchers: %w", maxWatchers, cluster.ErrOverloaded)
	}
	context.AfterFunc(ctx, s.Close)
	c.e.goFunc(s.snapshot)
	return s, nil
}

// Trace begins to trace a twin's transport. Close the stream; it also ends with ctx.
func (c *Client) Trace(ctx context.Context, id string) (*TraceStream, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	if t, err := c.e.readTwin(id); err != nil || t == nil {
		if err == nil {
			err = ErrNotFound
		}
		return nil, fmt.Errorf("trace twin %s: %w", id, err)
	}
	s, ok := c.e.tracers.add(id)
	if !ok {
		c.e.stats.drop(dropTraceLimit)
		return nil, fmt.Errorf("trace twin %s: %d traces: %w", id, maxTraces, cluster.ErrOverloaded)
	}
	context.AfterFunc(ctx, s.Close)
	return s, nil
}

// Ingest takes a message in; see Engine.Ingest.
func (c *Client) Ingest(m *Ingest, done func(IngestResult)) { c.e.Ingest(m, done) }

// IngestAll is Ingest of several messages; those that are nil are left out. done is called once for each, with its number.
func (c *Client) IngestAll(all []*Ingest, done func(int, IngestResult)) { c.e.IngestAll(all, done) }

// RefuseIngest lists a message that its door refuses; see Engine.Refuse.
func (c *Client) RefuseIngest(m *Ingest, code, reason string, done func(IngestResult)) {
	c.e.Refuse(m, code, reason, done)
}

// CheckIngest says why a message would be refused at the door; see Engine.Check.
func (c *Client) CheckIngest(m *Ingest) (code, reason string) { return c.e.Check(m) }
