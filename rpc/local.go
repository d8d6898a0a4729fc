package rpc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
)

// Headers between nodes. They are read at the peer door alone.
const (
	// HeaderPrincipal says on whose behalf a node calls, as encodePrincipal writes it.
	HeaderPrincipal = "Pollux-Principal"
	// HeaderLocal, "1", asks for what the called node itself has: it passes nothing on.
	HeaderLocal = "Pollux-Local"
)

// localKey marks a context in which nothing is passed on.
type localKey struct{}

func isLocal(ctx context.Context) bool { return ctx.Value(localKey{}) != nil }

// sentPrincipal is a principal on its way between nodes. What proved it stays behind: the node that passes a call on ends
// it when the key ends.
type sentPrincipal struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role"`
	Project string `json:"project,omitempty"`
	Device  string `json:"device,omitempty"`
}

func encodePrincipal(p *Principal) string {
	b, err := json.Marshal(sentPrincipal{ID: p.ID, Name: p.Name, Role: p.Role.String(), Project: p.Project, Device: p.Device})
	if err != nil {
		return "" // five strings can be marshalled
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodePrincipal(text string) (*Principal, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnauthenticated, HeaderPrincipal, err)
	}
	var in sentPrincipal
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnauthenticated, HeaderPrincipal, err)
	}
	role, err := ParseRole(in.Role)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnauthenticated, HeaderPrincipal, err)
	}
	return &Principal{ID: in.ID, Name: in.Name, Role: role, Project: in.Project, Device: in.Device, peer: true}, nil
}

// peerPrincipal reads who a node calls for.
func peerPrincipal(h http.Header) (*Principal, error) {
	text := h.Get(HeaderPrincipal)
	if text == "" {
		return nil, fmt.Errorf("%w: %s is missing", ErrUnauthenticated, HeaderPrincipal)
	}
	return decodePrincipal(text)
}

// outgoing puts the two headers on calls to other nodes.
type outgoing struct{}

func (outgoing) set(ctx context.Context, h http.Header) {
	if p := principalFrom(ctx); p != nil {
		h.Set(HeaderPrincipal, encodePrincipal(p))
	}
	h.Set(HeaderLocal, "1")
}

// WrapUnary implements connect.Interceptor.
func (o outgoing) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		o.set(ctx, r.Header())
		return next(ctx, r)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (o outgoing) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		c := next(ctx, spec)
		o.set(ctx, c.RequestHeader())
		return c
	}
}

// WrapStreamingHandler implements connect.Interceptor; it is not for handlers.
func (o outgoing) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
