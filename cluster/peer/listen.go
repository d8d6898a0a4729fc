package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"

	"github.com/polluxhq/pollux/cluster/pki"
	"github.com/polluxhq/pollux/proto/pollux/peer/v1/peerv1connect"
)

const (
	// handshakeTimeout is for the TLS handshake of whoever connects, where DialTimeout is no longer than that.
	handshakeTimeout = 5 * time.Second
	// maxConns bounds the connections that are accepted, those of strangers who shake hands included.
	maxConns = 4096
	// maxStrangers bounds connections without a certificate, each open for strangerTime at most.
	maxStrangers = 64
	strangerTime = 30 * time.Second

	exchangePath = peerv1connect.PeerServiceExchangeProcedure
	// HeaderPeer names the node that asks, in requests to Options.API.
	HeaderPeer = "Pollux-Peer"
)

// serverConn is a connection that came in.
type serverConn struct {
	p      *Peers
	conn   *tls.Conn
	state  tls.ConnectionState
	node   string      // of the verified certificate, "" for a stranger
	known  atomic.Bool // node and state are set, and it is a node of ours
	closed chan struct{}
	close  func()
}

// accept takes connections until Close.
func (p *Peers) accept() {
	cfg := p.o.Identity.ServerTLS(protoH2, protoRaft)
	strangers := make(chan struct{}, maxStrangers)
	for {
		conn, err := p.o.Listener.Accept()
		if err != nil {
			p.mu.Lock()
			closed := p.closed
			p.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return
			}
			if p.seldom("accept") {
				p.o.Logger.Error("peer port does not accept", "error", err)
			}
			time.Sleep(50 * time.Millisecond) // out of files
			continue
		}
		c := &serverConn{p: p, conn: tls.Server(conn, cfg), closed: make(chan struct{})}
		c.close = sync.OnceFunc(func() { close(c.closed); conn.Close() })
		if !p.enter(c) {
			conn.Close()
			continue
		}
		if !p.goDo(func() { defer p.leave(c); c.serve(strangers) }) {
			p.leave(c)
		}
	}
}

// handshakeTimeout is how long whoever connects may shake hands: no shorter than this node waits itself.
func (p *Peers) handshakeTimeout() time.Duration { return max(handshakeTimeout, p.o.DialTimeout) }

func (p *Peers) enter(c *serverConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if len(p.conns) >= maxConns {
		p.m.refused("too_many").Inc()
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Peers) leave(c *serverConn) {
	c.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// serve shakes hands, judges the certificate, and goes by the protocol.
func (c *serverConn) serve(strangers chan struct{}) {
	p := c.p
	ctx, cancel := context.WithTimeout(p.ctx, p.handshakeTimeout())
	err := c.conn.HandshakeContext(ctx)
	cancel()
	c.state = c.conn.ConnectionState()
	if err != nil {
		p.m.refused("handshake").Inc()
		key := "handshake " + host(c.conn)
		if meant := p.o.Identity.Meant(&c.state); meant != nil {
			key += meant.Error()
			err = fmt.Errorf("%w (%w)", meant, err)
		}
		if p.seldom(key) {
			p.o.Logger.Warn("peer connection refused", "remote", c.conn.RemoteAddr().String(), "error", err)
		}
		return
	}
	node, refused := p.o.Identity.Verify(&c.state)
	if refused == nil && p.o.Admit != nil {
		refused = p.o.Admit(node)
	}
	if refused != nil && !errors.Is(refused, pki.ErrNoCertificate) {
		p.m.refused("certificate").Inc()
		if p.seldom("certificate " + host(c.conn)) {
			p.o.Logger.Error("peer connection refused", "remote", c.conn.RemoteAddr().String(), "node", node, "error", refused)
		}
	}
	if refused == nil {
		c.node = node
		c.known.Store(true)
	} else {
		select {
		case strangers <- struct{}{}:
			defer func() { <-strangers }()
		default:
			p.m.refused("too_many").Inc()
			return
		}
		defer time.AfterFunc(strangerTime, c.close).Stop()
	}
	switch c.state.NegotiatedProtocol {
	case protoRaft:
		c.serveRaft(refused)
	case protoH2:
		c.serveH2(refused)
	default:
		p.m.refused("protocol").Inc()
	}
}

func host(c net.Conn) string {
	h, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return h
}

// serveH2 serves requests until the connection ends; where the node is refused, each is answered with the reason.
func (c *serverConn) serveH2(refused error) {
	p := c.p
	server := &http2.Server{
		ReadIdleTimeout:              p.o.ReadIdle,
		PingTimeout:                  p.o.Ping,
		MaxReadFrameSize:             512 << 10,
		MaxConcurrentStreams:         1000,
		MaxUploadBufferPerConnection: 8 << 20,
		MaxUploadBufferPerStream:     4 << 20,
	}
	server.ServeConn(c.conn, &http2.ServeConnOpts{
		Context:    p.ctx,
		BaseConfig: &http.Server{ErrorLog: log.New(debugLog{p.o.Logger}, "", 0), MaxHeaderBytes: 64 << 10},
		Handler:    c.handler(refused),
	})
}

// handler is the connection's own: it knows which node asks.
func (c *serverConn) handler(refused error) http.Handler {
	opts := []connect.HandlerOption{connect.WithCodec(codec{}), connect.WithReadMaxBytes(readMax), connect.WithCompression("gzip", nil, nil)}
	mux := http.NewServeMux()
	if refused != nil {
		if errors.Is(refused, pki.ErrNoCertificate) {
			mux.Handle(peerv1connect.PeerServiceEnrollProcedure, connect.NewUnaryHandlerSimple(peerv1connect.PeerServiceEnrollProcedure,
				c.enroll, connect.WithReadMaxBytes(64<<10)))
		}
		answer := connect.NewErrorWriter(opts...)
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			c.p.m.refused("request").Inc()
			if !answer.IsSupported(r) {
				http.Error(w, refused.Error(), http.StatusForbidden)
				return
			}
			answer.Write(w, r, connect.NewError(connect.CodePermissionDenied, refused))
		})
		return mux
	}
	mux.Handle(exchangePath, wholeWrites(connect.NewBidiStreamHandler(exchangePath, c.exchange, opts...)))
	mux.Handle(peerv1connect.PeerServicePutBlobProcedure,
		connect.NewClientStreamHandler(peerv1connect.PeerServicePutBlobProcedure, c.p.putBlob, opts...))
	mux.Handle(peerv1connect.PeerServiceGetBlobProcedure,
		connect.NewServerStreamHandler(peerv1connect.PeerServiceGetBlobProcedure, c.p.getBlob, opts...))
	mux.Handle(peerv1connect.PeerServiceEnrollProcedure, connect.NewUnaryHandlerSimple(peerv1connect.PeerServiceEnrollProcedure,
		c.enroll, connect.WithReadMaxBytes(64<<10)))
	if c.p.o.API != nil {
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set(HeaderPeer, c.node)
			s := &streamed{ResponseWriter: w}
			c.p.o.API.ServeHTTP(s, r)
			if s.begun && c.p.closing() {
				panic(http.ErrAbortHandler) // a stream was cut short: it must not look as if all had been said
			}
		})
	}
	return mux
}

// streamed notes whether an answer is sent in parts.
type streamed struct {
	http.ResponseWriter
	begun bool
}

// FlushError sends what was written so far.
func (s *streamed) FlushError() error {
	s.begun = true
	return http.NewResponseController(s.ResponseWriter).Flush()
}

// Flush is FlushError without its error.
func (s *streamed) Flush() { s.FlushError() }

// Unwrap is for http.ResponseController.
func (s *streamed) Unwrap() http.ResponseWriter { return s.ResponseWriter }
