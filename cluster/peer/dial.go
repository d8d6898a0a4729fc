package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
)

// Protocols on the peer port.
const (
	protoH2   = "h2"
	protoRaft = "pollux-raft"
)

// dialTLS connects to a node; node "" means any of the cluster.
func (p *Peers) dialTLS(ctx context.Context, addr, node, proto string) (*tls.Conn, error) {
	d := tls.Dialer{Config: p.o.Identity.ClientTLS(node, proto), NetDialer: &net.Dialer{KeepAlive: 15 * time.Second}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn := c.(*tls.Conn)
	if got := conn.ConnectionState().NegotiatedProtocol; got != proto {
		conn.Close()
		return nil, fmt.Errorf("%s speaks %q instead of %q: %w", addr, got, proto, ErrRefused)
	}
	return conn, nil
}

func (p *Peers) dialNode(ctx context.Context, node string) (*tls.Conn, error) {
	addr, ok := p.o.Address(node)
	if !ok {
		return nil, fmt.Errorf("address of node %s is not known", node)
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.DialTimeout)
	defer cancel()
	return p.dialTLS(ctx, addr, node, protoH2)
}

func (p *Peers) newTransport() *http2.Transport {
	t := &http2.Transport{}
	p.configure(t)
	return t
}

func (p *Peers) configure(t *http2.Transport) {
	t.DisableCompression = true
	t.ReadIdleTimeout = p.o.ReadIdle
	t.PingTimeout = p.o.Ping
	t.MaxReadFrameSize = 256 << 10
}

// maxUnread in bytes is what another node sends of an answer that nobody reads here yet: a client that does not read its stream has some waiting for it
// from each node. HTTP/2's own 4 MiB would be gigabytes for a thousand of them, and a fourth of a thousand would stop all other answers of
// the connection. It is 64 MB/s at a way of 2 ms there and back.
const maxUnread = 128 << 10

// newRequests is the transport of single requests: blobs and the API. The host of a URL is a node's id.
func (p *Peers) newRequests() *http2.Transport {
	// The bound can be set by way of a transport of net/http only, which makes no connection here.
	t, err := http2.ConfigureTransports(&http.Transport{HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: maxUnread}})
	if err != nil { // of one that is configured already
		p.o.Logger.Error("answers of other nodes are not bounded", "error", err)
		t = &http2.Transport{}
	}
	t.ConnPool = nil // its own
	p.configure(t)
	t.IdleConnTimeout = 30 * time.Second
	t.DialTLSContext = func(ctx context.Context, _, addr string, _ *tls.Config) (net.Conn, error) {
		node, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		conn, err := p.dialNode(ctx, node)
		if err != nil {
			return nil, err
		}
		return ownConn{conn, context.AfterFunc(p.ctx, func() { conn.NetConn().Close() })}, nil
	}
	return t
}

// ownConn ends with the peers, whatever is still read from it.
type ownConn struct {
	*tls.Conn
	stop func() bool
}

func (c ownConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// h2conn is one HTTP/2 connection of our own, without a pool: when it is lost, the link that it carries is.
type h2conn struct {
	cc    *http2.ClientConn
	conn  net.Conn
	close func()
	// body is put around the bodies of requests; nil: none is.
	body func(io.ReadCloser) io.ReadCloser
}

func (p *Peers) dialH2(ctx context.Context, node string) (*h2conn, error) {
	conn, err := p.dialNode(ctx, node)
	if err != nil {
		return nil, err
	}
	cc, err := p.h2.NewClientConn(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &h2conn{cc: cc, conn: conn, close: sync.OnceFunc(func() { cc.Close(); conn.Close() })}, nil
}

// Do makes it a connect.HTTPClient.
func (c *h2conn) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && c.body != nil {
		r.Body = c.body(r.Body)
	}
	return c.cc.RoundTrip(r)
}

// HTTP gives a client for the API of another node, and the base of its URLs. Requests fail where the node cannot be
// reached or is not the one that was meant.
func (p *Peers) HTTP(node string) (connect.HTTPClient, string, error) {
	if _, ok := p.o.Address(node); !ok {
		return nil, "", fmt.Errorf("address of node %s is not known", node)
	}
	return requests{p}, "https://" + node, nil
}

type requests struct{ p *Peers }

func (r requests) Do(req *http.Request) (*http.Response, error) {
	if r.p.closing() {
		return nil, ErrClosed
	}
	res, err := r.p.http.Load().RoundTrip(req)
	if err != nil && strings.HasPrefix(err.Error(), "http2:") {
		err = fmt.Errorf("node %s: %w", req.URL.Host, err)
	}
	return res, err
}
