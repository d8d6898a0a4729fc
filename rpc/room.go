package rpc

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/VictoriaMetrics/metrics"
)

// maxBodies in bytes is what the bodies of all requests hold at once, uploads apart: those have maxUploads.
const maxBodies = 128 << 20

// room is memory for the bodies of all callers together. One caller's limits do not bound a thousand callers.
type room struct {
	size int64
	used atomic.Int64
	full *metrics.Counter
}

// take says whether there is room for so many bytes more. A nil room is endless.
func (r *room) take(n int64) bool {
	if r == nil || r.used.Add(n) <= r.size {
		return true
	}
	r.used.Add(-n)
	r.full.Inc()
	return false
}

func (r *room) give(n int64) {
	if r != nil {
		r.used.Add(-n)
	}
}

// packed says whether a request's body is a whole message that grows when it is unpacked, up to its limit.
func packed(h http.Header) bool {
	encoding := h.Get("Content-Encoding")
	return encoding != "" && encoding != "identity"
}

// compression is gzip as connect's own, but what unpacks to more than limit bytes is stopped there, and counted. Connect
// would unpack the rest too, to say how much it was: a megabyte of zeros is a gigabyte.
func compression(limit int64, bombs *metrics.Counter) connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &boundedGzip{limit: limit, bombs: bombs} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) })
}

type boundedGzip struct {
	gzip.Reader
	limit, left int64
	bombs       *metrics.Counter
}

// Reset implements connect.Decompressor.
func (g *boundedGzip) Reset(r io.Reader) error {
	g.left = g.limit
	return g.Reader.Reset(r)
}

func (g *boundedGzip) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	before := g.left
	if g.left -= int64(n); g.left >= 0 {
		return n, err
	}
	if before >= 0 {
		g.bombs.Inc()
	}
	return 0, translate(&http.MaxBytesError{Limit: g.limit})
}

// refusals counts what the door turned away, by reason: pollux_rpc_refused_total.
type refusals struct {
	uploads, body, message, door, bomb, room, unauthenticated, forbidden, hooks, strangers *metrics.Counter
}

func newRefusals(set *metrics.Set) refusals {
	c := func(reason string) *metrics.Counter {
		return set.GetOrCreateCounter(fmt.Sprintf(`pollux_rpc_refused_total{reason=%q}`, reason))
	}
	return refusals{uploads: c("uploads"), body: c("body"), message: c("message"), door: c("door"), bomb: c("bomb"),
		room: c("room"), unauthenticated: c("unauthenticated"), forbidden: c("forbidden"), hooks: c("webhook"), strangers: c("no_request")}
}

// call counts a call that was refused for who made it.
func (r *refusals) call(err error) {
	switch connect.CodeOf(err) { //nolint:exhaustive // the others say something of the call
	case connect.CodeUnauthenticated:
		r.unauthenticated.Inc()
	case connect.CodePermissionDenied:
		r.forbidden.Inc()
	}
}

// Refused gives how often the door turned something away since the start, by reason.
func (s *Server) Refused() map[string]uint64 {
	r := &s.refused
	out := map[string]uint64{}
	for name, c := range map[string]*metrics.Counter{
		"too_many_uploads": r.uploads, "body_too_large": r.body, "message_malformed": r.message, "page_denied": r.door,
		"gzip_bomb": r.bomb, "bodies_full": r.room, "call_unauthenticated": r.unauthenticated, "call_forbidden": r.forbidden,
		"websocket": s.sockets.refused, "webhook": r.hooks, "no_request": r.strangers, "websocket_too_slow": s.sockets.dropped,
	} {
		if n := c.Get(); n > 0 {
			out[name] = n
		}
	}
	return out
}
