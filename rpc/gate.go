package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

// principalKey holds the call's principal in its context. Nothing else of ours travels there.
type principalKey struct{}

func principalFrom(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// guard stands in front of every procedure: gate before the body is read (who is it?), then, with the message,
// authorization and validation. It counts what comes out, and logs what was changed.
type guard struct {
	// peer: the caller is another node, which says for whom it calls, and that nothing is to be passed on.
	peer      bool
	keys      *Keyring
	ready     func() error
	table     map[string]procedure
	validator protovalidate.Validator
	counters  *callCounters
	refused   *refusals
	log       *slog.Logger
	// denied hears of a message of the API that its sender may not send.
	denied func(p *Principal, action Action, r Resource, m any)
}

// gate is a connect.RequestGateFunc: it turns strangers away before a byte of their body is read.
func (g *guard) gate(ctx context.Context, spec connect.Spec, _ connect.Peer, h http.Header) (context.Context, error) {
	proc, ok := g.table[spec.Procedure]
	if !ok {
		return nil, g.refuse(spec.Procedure, fmt.Errorf("%w: %s has no entry in the table of procedures", ErrForbidden, spec.Procedure))
	}
	if proc.open {
		return ctx, nil
	}
	var p *Principal
	var err error
	if g.peer {
		p, err = peerPrincipal(h)
	} else {
		// A request's method is not shown here. POST is the strict reading, and RPC by GET asks no more of a browser.
		p, err = g.keys.principalOf(http.MethodPost, h.Get("Host"), h)
	}
	if err == nil && (p.Role <= RoleDevice || proc.actionOf == nil && p.Role < rights[proc.action].least) {
		err = forbidden(p, proc.action, Resource{Project: scopeOf(p), Kind: "api"})
	}
	if err != nil {
		return nil, g.refuse(spec.Procedure, err)
	}
	if g.peer && h.Get(HeaderLocal) != "" {
		ctx = context.WithValue(ctx, localKey{}, true)
	}
	return context.WithValue(ctx, principalKey{}, p), nil
}

func (g *guard) refuse(procedure string, err error) error {
	err = translate(err)
	g.counters.count(procedure, err, 0)
	g.refused.call(err)
	g.log.Debug("call refused", "procedure", procedure, "error", err)
	return err
}

// admit authorizes one request message and then validates it: who may not do a thing learns nothing from its rules.
func (g *guard) admit(ctx context.Context, procedure string, m any) error {
	proc, ok := g.table[procedure]
	if !ok {
		return fmt.Errorf("%w: %s has no entry in the table of procedures", ErrForbidden, procedure)
	}
	if !proc.open {
		p := principalFrom(ctx)
		if p == nil {
			return ErrUnauthenticated
		}
		r, err := proc.resource(m, p)
		if err != nil {
			return err
		}
		action := proc.action
		if proc.actionOf != nil {
			action = proc.actionOf(m)
		}
		if err := Authorize(p, action, r); err != nil {
			if g.denied != nil {
				g.denied(p, action, r, m)
			}
			return err
		}
		if rights[action].commits && !proc.reads {
			if err := g.quorum(); err != nil {
				return err
			}
		}
	}
	msg, ok := m.(proto.Message)
	if !ok {
		return errWrongMessage
	}
	if fastValid(msg) {
		return nil
	}
	if err := g.validator.Validate(msg); err != nil {
		return validationError(err)
	}
	return nil
}

// quorum says at once what a commit would find out only when its time is over: in a minority nothing can be committed.
func (g *guard) quorum() error {
	if errors.Is(g.ready(), ErrNoQuorum) {
		return fmt.Errorf("%w: this node has no lease, so nothing can be committed here", ErrNoQuorum)
	}
	return nil
}

// WrapUnary implements connect.Interceptor.
func (g *guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		start := time.Now()
		procedure := req.Spec().Procedure
		err := g.admit(ctx, procedure, req.Any())
		var res connect.AnyResponse
		if err == nil {
			res, err = next(ctx, req)
		}
		err = translate(err)
		g.done(ctx, procedure, start, err)
		if err != nil {
			return nil, err
		}
		if !isLocal(ctx) { // else the node that was asked first logs it
			g.logChange(ctx, req.Any(), res.Any())
		}
		return res, nil
	}
}

// WrapStreamingClient implements connect.Interceptor; it is not for clients.
func (g *guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (g *guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) (err error) {
		start := time.Now()
		procedure := conn.Spec().Procedure
		g.counters.streams.Add(1)
		defer func() {
			g.counters.streams.Add(-1)
			g.done(ctx, procedure, start, err)
		}()
		if p := principalFrom(ctx); p != nil {
			var stop func()
			ctx, stop, err = g.keys.Follow(ctx, p)
			if err != nil {
				return translate(err)
			}
			defer stop()
		}
		err = next(ctx, &guardedConn{StreamingHandlerConn: conn, g: g, ctx: ctx})
		if cause := context.Cause(ctx); err != nil && cause != nil && ctx.Err() != nil {
			// The stream ended because of its key, not because of what the handler saw then.
			err = cause
		}
		return translate(err)
	}
}

// guardedConn admits each message that it receives.
type guardedConn struct {
	connect.StreamingHandlerConn
	g   *guard
	ctx context.Context
}

func (c *guardedConn) Receive(m any) error {
	if err := c.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	return translate(c.g.admit(c.ctx, c.Spec().Procedure, m))
}

func (g *guard) done(ctx context.Context, procedure string, start time.Time, err error) {
	took := time.Since(start)
	g.counters.count(procedure, err, took)
	if err != nil {
		g.refused.call(err)
	}
	if !g.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	by := ""
	if p := principalFrom(ctx); p != nil {
		by = p.Name
	}
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	g.log.Debug("call", "procedure", procedure, "code", code, "by", by, "took", took)
}
