package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// strangers counts connections that sent something and never a request: garbage, another protocol, TLS that did not come about.
// The HTTP server closes them by itself.
type strangers struct {
	http.Handler
	count *metrics.Counter
	open  sync.Map // net.Conn → *visit
}

// visit is one connection.
type visit struct{ spoke, asked atomic.Bool }

type visitKey struct{}

// watch has a server's connections looked at.
func (s *strangers) watch(server *http.Server) {
	server.Handler = s
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		v := new(visit)
		s.open.Store(c, v)
		return context.WithValue(ctx, visitKey{}, v)
	}
	server.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateActive:
			if v, ok := s.open.Load(c); ok {
				v.(*visit).spoke.Store(true)
			}
		case http.StateClosed, http.StateHijacked:
			if v, ok := s.open.LoadAndDelete(c); ok {
				s.left(c, v.(*visit))
			}
		}
	}
}

func (s *strangers) left(c net.Conn, v *visit) {
	secured, isTLS := c.(*tls.Conn)
	if !v.asked.Load() && (v.spoke.Load() || isTLS && !secured.ConnectionState().HandshakeComplete) {
		s.count.Inc()
	}
}

func (s *strangers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if v, ok := r.Context().Value(visitKey{}).(*visit); ok && !v.asked.Load() {
		v.asked.Store(true)
	}
	s.Handler.ServeHTTP(w, r)
}
