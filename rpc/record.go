package rpc

import (
	"context"
	"errors"
	"sync"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (t *twinService) RecordTwin(ctx context.Context, r *connect.Request[pb.RecordTwinRequest], out *connect.ServerStream[pb.RecordTwinResponse]) error {
	if _, err := t.s.o.Registry.GetTwin(r.Msg.Id); err != nil {
		return err
	}
	return t.s.recordAll(ctx, r.Msg.Id, out.Send)
}

// recordAll follows a twin's calls to wherever it lives. It returns nil never.
func (s *Server) recordAll(ctx context.Context, id string, send func(*pb.RecordTwinResponse) error) error {
	for began := false; ; began = true {
		err := s.recordOn(ctx, s.elsewhere(ctx, id), id, send)
		if ctx.Err() != nil || isLocal(ctx) || !began && !errors.Is(err, errMoved) && !notOwner(err) || errors.As(err, new(*sendError)) {
			return err
		}
		// The table of slots here may be behind what the former owner knows.
		pause(ctx, lookEvery/5)
	}
}

// recordOn records on one node, "" for this one, until it fails or the twin moves.
func (s *Server) recordOn(ctx context.Context, node, id string, send func(*pb.RecordTwinResponse) error) error {
	ctx, stop := s.staying(ctx, node, id)
	defer stop()
	next, end, err := s.openRecord(ctx, node, id)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	defer end()
	if node == "" {
		// An empty part: from here on nothing is missed.
		if err := send(&pb.RecordTwinResponse{}); err != nil {
			return &sendError{err}
		}
	}
	return pass(ctx, next, send)
}

// openRecord begins a recording on a node, "" for this one.
func (s *Server) openRecord(ctx context.Context, node, id string) (next func() (*pb.RecordTwinResponse, error), stop func(), err error) {
	if node == "" {
		r, err := s.o.Client.Record(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		return func() (*pb.RecordTwinResponse, error) { return r.Next(ctx) }, r.Close, nil
	}
	p, err := s.peer(node)
	if err != nil {
		return nil, nil, err
	}
	in, err := p.twins.RecordTwin(ctx, connect.NewRequest(&pb.RecordTwinRequest{Id: id}))
	if err != nil {
		return nil, nil, err
	}
	next, stop = received(in)
	return next, stop, nil
}

// staying gives a context that ends with errMoved where the twin is elsewhere than on the node. stop waits for the one who
// looks.
func (s *Server) staying(parent context.Context, node, id string) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	if isLocal(ctx) {
		return ctx, func() { cancel(nil) }
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if pause(ctx, lookEvery); s.elsewhere(ctx, id) != node {
				cancel(errMoved)
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}
