package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// lookEvery is how often a watch looks for nodes that came or went.
	lookEvery = 250 * time.Millisecond
	// againAfter and againMost bound the wait before a lost node is asked again.
	againAfter = 250 * time.Millisecond
	againMost  = 5 * time.Second
	// aheadFor is how long the owner's first word may be ahead of this node's table of slots.
	aheadFor = 500 * time.Millisecond
	// heartbeatFrom other nodes come each 10 s; a node that is silent for longer is taken as lost.
	heartbeatFrom = 25 * time.Second
)

// watchAll merges the watches of all nodes: each gives the twins that it has. A node that is lost is told by a gap, and its
// twins come again from where they live then; nodes that join are added. It returns nil never.
//
// One writer, which reads this node's own watch; every message of another node waits in the hands of the one who has it. So a slow
// client is felt on every node, where the watch is bounded.
func (s *Server) watchAll(ctx context.Context, p *Principal, r *pb.WatchTwinsRequest, send func(*actors.Told) error) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &fanWatch{s: s, r: r, out: make(chan *actors.Told), running: make(map[string]context.CancelFunc)}
	defer w.wg.Wait()
	defer cancel()
	sub, err := s.o.Client.Watch(ctx, r, projectsOf(p))
	if err != nil {
		return err
	}
	defer sub.Close()
	self := s.o.Peers.Self()
	changed, leave := s.members.follow()
	defer leave()
	w.look(ctx)
	for {
		m, err := sub.Poll()
		switch {
		case err != nil:
			return err
		case m == nil:
		case m.Id != "" && !w.owns(ctx, self, m):
			s.lateChanges.Inc()
		default:
			if err := send(m); err != nil {
				return err
			}
		}
		if m, err = w.wait(ctx, m != nil, sub.Ready(), changed); err != nil {
			return err
		}
		if m != nil {
			if err := send(m); err != nil {
				return err
			}
		}
	}
}

// fanWatch is one reader's watch of all nodes.
type fanWatch struct {
	s   *Server
	r   *pb.WatchTwinsRequest
	out chan *actors.Told
	wg  sync.WaitGroup
	// running watches of other nodes; touched by the reader's goroutine alone.
	running map[string]context.CancelFunc
}

// wait gives the next message of another node, or nil where this node's own watch may have one; it does not wait where that is so
// already. Members that come and go are seen to.
func (w *fanWatch) wait(ctx context.Context, more bool, ready, changed <-chan struct{}) (*actors.Told, error) {
	if more {
		select {
		case m := <-w.out:
			return m, nil
		case <-changed:
			w.look(ctx)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		default:
		}
		return nil, nil
	}
	select {
	case m := <-w.out:
		return m, nil
	case <-ready:
	case <-changed:
		w.look(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return nil, nil
}

// look starts a watch of each node that came, and ends those of nodes that went.
func (w *fanWatch) look(ctx context.Context) {
	nodes := w.s.others()
	for node, stop := range w.running {
		if !slices.Contains(nodes, node) {
			stop()
			delete(w.running, node)
		}
	}
	for _, node := range nodes {
		if w.running[node] == nil {
			following, stop := context.WithCancel(ctx)
			w.running[node] = stop
			w.wg.Go(func() { w.follow(ctx, following, node) })
		}
	}
}

// follow watches a node until it is no member any more. Each time it is lost, the reader is told. ctx is the reader's, and
// following ends with the member too.
func (w *fanWatch) follow(ctx, following context.Context, node string) {
	wait := againAfter
	for told := false; ; {
		began := time.Now()
		stood, err := w.stream(following, node)
		if ctx.Err() != nil {
			return
		}
		if stood {
			told, wait = false, againAfter
		}
		if !told {
			told = true
			w.gap(ctx, node, following.Err() != nil, err)
		}
		if following.Err() != nil {
			return
		}
		if time.Since(began) < wait {
			pause(following, wait-time.Since(began))
		}
		wait = min(2*wait, againMost)
	}
}

// gap tells that a node's changes may be missing.
func (w *fanWatch) gap(ctx context.Context, node string, gone bool, err error) {
	name := w.s.name(node)
	text := "node " + name + " is no member any more"
	if !gone && err != nil {
		text = "node " + name + " does not answer: " + plainText(err)
	}
	w.s.log.Debug("watch lost a node", "node", node, "gone", gone, "error", err)
	w.s.lostWatches.Inc()
	m := &actors.Told{WatchTwinsResponse: &pb.WatchTwinsResponse{Change: &pb.WatchTwinsResponse_Heartbeat{Heartbeat: true}, Gap: text}}
	select {
	case w.out <- m:
	case <-ctx.Done():
	}
}

// stream passes on what a node gives, until it fails; stood says whether the watch was in place.
func (w *fanWatch) stream(ctx context.Context, node string) (stood bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(heartbeatFrom, func() { cancel(fmt.Errorf("silent for %s", heartbeatFrom)) })
	defer silent.Stop()
	p, err := w.s.peer(node)
	if err != nil {
		return false, err
	}
	in, err := p.twins.WatchTwins(ctx, connect.NewRequest(w.r))
	if err != nil {
		return false, err
	}
	defer func() { _ = in.Close() }()
	for in.Receive() {
		silent.Reset(heartbeatFrom)
		stood = true
		m := &actors.Told{WatchTwinsResponse: in.Msg()}
		if m.Id == "" && m.Gap == "" {
			continue
		}
		if m.Id != "" && !w.owns(ctx, node, m) {
			w.s.lateChanges.Inc()
			continue
		}
		select {
		case w.out <- m:
		case <-ctx.Done():
			return stood, context.Cause(ctx)
		}
	}
	if err := in.Err(); err != nil {
		return stood, err
	}
	return stood, errEnded
}

var errEnded = errors.New("the node ended the watch")

// owns says whether the node may still speak for the twin. What a former owner says late must not follow what the new one
// said: the new owner's first word is the whole state, with all that came before it. That first word may be ahead of the
// table of slots here, and then waits for it.
func (w *fanWatch) owns(ctx context.Context, node string, m *actors.Told) bool {
	is := func() bool {
		owner := w.s.o.Peers.Owner(m.Id)
		return owner == node || owner == ""
	}
	if is() {
		return true
	}
	if m.GetState() == nil && !m.GetDeleted() {
		return false
	}
	for end := time.Now().Add(aheadFor); time.Now().Before(end) && ctx.Err() == nil; {
		if pause(ctx, 5*time.Millisecond); is() {
			return true
		}
	}
	return false
}

// traceAll follows a twin's bytes to wherever it lives. It returns nil never.
func (s *Server) traceAll(ctx context.Context, id string, send func(*pb.TraceTwinResponse) error) error {
	at := s.elsewhere(ctx, id)
	for began := false; ; began = true {
		node := s.elsewhere(ctx, id)
		err := s.traceOn(ctx, node, id, node != at, send)
		at = node
		if ctx.Err() != nil || isLocal(ctx) || !began && !errors.Is(err, errMoved) && !notOwner(err) || errors.As(err, new(*sendError)) {
			return err
		}
		if !errors.Is(err, errMoved) && !notOwner(err) {
			note := &pb.TraceTwinResponse{Direction: pb.TraceTwinResponse_DIRECTION_NOTE, Time: timestamppb.Now(),
				Data: []byte("trace interrupted: " + plainText(err))}
			if err := send(note); err != nil {
				return err
			}
			pause(ctx, time.Second)
		}
		// The table of slots here may be behind what the former owner knows.
		pause(ctx, lookEvery/5)
	}
}

// notOwner says that the node which was asked has lost the twin.
func notOwner(err error) bool {
	return errors.Is(err, cluster.ErrNotOwner) || ErrorInfoOf(err).GetReason() == "not_owner"
}

// errMoved ends a trace where the twin lives elsewhere now.
var errMoved = errors.New("the twin moved")

// sendError: the reader is gone.
type sendError struct{ error }

func (e *sendError) Unwrap() error { return e.error }

// traceOn traces on one node, "" for this one, until it fails or the twin moves.
func (s *Server) traceOn(ctx context.Context, node, id string, moved bool, send func(*pb.TraceTwinResponse) error) error {
	if moved {
		at := node
		if at == "" {
			at = s.o.Peers.Self()
		}
		note := &pb.TraceTwinResponse{Direction: pb.TraceTwinResponse_DIRECTION_NOTE, Time: timestamppb.Now(), Data: []byte("traced on node " + s.name(at))}
		if err := send(note); err != nil {
			return &sendError{err}
		}
	}
	ctx, leave := s.staying(ctx, node, id)
	defer leave()
	// Another node's answer begins with its first message.
	next, stop, err := s.openTrace(ctx, node, id)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	defer stop()
	return pass(ctx, next, send)
}

// received reads what another node streams; its end without an error is ErrClosed, as that of a stream of this node.
func received[T any](in *connect.ServerStreamForClient[T]) (next func() (*T, error), stop func()) {
	return func() (*T, error) {
		if in.Receive() {
			return in.Msg(), nil
		}
		if err := in.Err(); err != nil {
			return nil, err
		}
		return nil, actors.ErrClosed
	}, func() { _ = in.Close() }
}

// pass sends on what comes, until either fails. A failed send is a sendError; where ctx has ended its cause says why.
func pass[T any](ctx context.Context, next func() (*T, error), send func(*T) error) error {
	for {
		m, err := next()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		if err := send(m); err != nil {
			return &sendError{err}
		}
	}
}

// openTrace begins a trace on a node, "" for this one.
func (s *Server) openTrace(ctx context.Context, node, id string) (next func() (*pb.TraceTwinResponse, error), stop func(), err error) {
	if node == "" {
		t, err := s.o.Client.Trace(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		return func() (*pb.TraceTwinResponse, error) { return t.Next(ctx) }, t.Close, nil
	}
	p, err := s.peer(node)
	if err != nil {
		return nil, nil, err
	}
	in, err := p.twins.TraceTwin(ctx, connect.NewRequest(&pb.TraceTwinRequest{Id: id}))
	if err != nil {
		return nil, nil, err
	}
	next, stop = received(in)
	return next, stop, nil
}
