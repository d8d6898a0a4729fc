package httpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// probeEvery is how often a device is looked at while the driver asks nothing.
const probeEvery = 30 * time.Second

// Conn is what a twin of an http address has for a connection: its client, and the knowledge whether the device is there. It is as
// long as it answers, whatever the status: requests of the driver tell, and probes where there are none. A lost
// connection shows when a request gets no answer, and a probe none either.
type Conn struct {
	*transport.Conn
	client *Client
	probe  *url.URL
	every  time.Duration

	mu   sync.Mutex
	live *session
}

var _ interface {
	drivers.Reporter
	drivers.HTTPClient
} = (*Conn)(nil)

// Open opens http:// and https://.
func Open(o transport.Options) (drivers.Conn, error) {
	client, err := New(o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Binding.Transport.Scheme, err)
	}
	if client.base == nil {
		return nil, fmt.Errorf("open %q: scheme %q is none of http", o.Binding.URI, o.Binding.Transport.Scheme)
	}
	c := &Conn{client: client, every: probeEvery}
	if h := o.Binding.Transport.HTTP; h != nil {
		if h.ProbeMS > 0 {
			c.every = time.Duration(h.ProbeMS) * time.Millisecond
		}
		if h.Probe != "" {
			if c.probe, err = client.resolve(h.Probe); err != nil {
				return nil, fmt.Errorf("open %s: http/probe: %w", client.base.Host, err)
			}
		}
	}
	ready := make(chan struct{})
	dial := func(ctx context.Context) (transport.Session, error) {
		<-ready
		return c.dial(ctx)
	}
	if c.Conn, err = transport.Open(o, transport.Kind{Name: client.base.Host, Dial: dial}); err != nil {
		return nil, err
	}
	client.watch = c
	close(ready)
	return c, nil
}

// dial sees whether the device is there.
func (c *Conn) dial(ctx context.Context) (transport.Session, error) {
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	s := &session{conn: c, doubt: make(chan struct{}, 1), used: make(chan struct{}, 1), closed: make(chan struct{})}
	c.mu.Lock()
	c.live = s
	c.mu.Unlock()
	return s, nil
}

// look asks for the probe's path, or connects where there is none.
func (c *Conn) look(ctx context.Context) error {
	if c.probe != nil {
		res, err := c.client.once(ctx, c.client.own, c.probe, &drivers.HTTPRequest{Method: http.MethodGet})
		switch {
		case errors.Is(err, drivers.ErrTooLarge):
			return nil // an answer all the same
		case err != nil:
			return plain(err)
		case res.Status >= 500:
			return fmt.Errorf("the device answers %s with %d %s", c.probe.Path, res.Status, http.StatusText(res.Status))
		}
		return nil
	}
	if c.client.own.options.Proxy != "" {
		return nil // what is behind a proxy shows with the first request
	}
	base := c.client.base
	conn, err := c.client.own.pool.DialContext(ctx, "tcp", net.JoinHostPort(base.Hostname(), portOf(base)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if base.Scheme == "https" {
		conf := c.client.own.tls.Clone()
		if conf.ServerName == "" {
			conf.ServerName = base.Hostname()
		}
		if err := tls.Client(conn, conf).HandshakeContext(ctx); err != nil {
			return fmt.Errorf("tls with %s: %w", base.Host, err)
		}
	}
	return nil
}

// Do implements drivers.HTTPClient.
func (c *Conn) Do(ctx context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	return c.client.Do(ctx, r)
}

// Close implements drivers.Conn.
func (c *Conn) Close() error {
	return errors.Join(c.client.Close(), c.Conn.Close())
}

func (c *Conn) asked(u *url.URL, r *drivers.HTTPRequest) {
	head := r.Method + " " + u.RequestURI()
	if u.Host != c.client.base.Host {
		head = r.Method + " " + u.String()
	}
	c.Note(transport.Sent, join(head, r.Body))
}

func (c *Conn) answered(u *url.URL, r *drivers.HTTPResponse, err error) {
	if err == nil {
		c.Note(transport.Received, join(strconv.Itoa(r.Status)+" "+http.StatusText(r.Status), r.Body))
	}
	if rule := c.client.rules.find(u.Hostname(), portOf(u)); rule == nil || !rule.own {
		return
	}
	c.mu.Lock()
	s := c.live
	c.mu.Unlock()
	if s == nil {
		return
	}
	switch {
	case err == nil || errors.Is(err, drivers.ErrTooLarge):
		put(s.used, struct{}{})
	case errors.Is(err, context.Canceled), errors.Is(err, drivers.ErrDenied), errors.Is(err, drivers.ErrInvalid), errors.Is(err, drivers.ErrRateLimited):
	default:
		put(s.doubt, struct{}{})
	}
}

func join(head string, body []byte) []byte {
	return append(append([]byte(head), "\r\n"...), body...)
}

func put[T any](ch chan T, v T) {
	select {
	case ch <- v:
	default:
	}
}

// session lasts as long as the device answers.
type session struct {
	conn   *Conn
	doubt  chan struct{} // a request got no answer
	used   chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Receive implements transport.Session: nothing comes by itself over HTTP.
func (s *session) Receive() ([]byte, error) {
	timer := time.NewTimer(s.conn.every)
	defer timer.Stop()
	for {
		select {
		case <-s.closed:
			return nil, net.ErrClosed
		case <-s.used:
		case <-s.doubt:
			if err := s.look(); err != nil {
				return nil, err
			}
		case <-timer.C:
			if err := s.look(); err != nil {
				return nil, err
			}
		}
		timer.Reset(s.conn.every)
	}
}

func (s *session) look() error {
	ctx, cancel := context.WithTimeout(s.conn.client.ctx, 5*time.Second)
	defer cancel()
	return s.conn.look(ctx)
}

// Send implements transport.Session.
func (s *session) Send(context.Context, []byte) (int, error) {
	return 0, fmt.Errorf("a device behind HTTP is asked by the capability http: %w", drivers.ErrInvalid)
}

// Close implements transport.Session.
func (s *session) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
