package actors

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What a driver's call reaches outside besides frames: HTTP, another's broker, its own connection.

// web is a twin's HTTP client, for a driver whose device is not behind an HTTP address itself. It is made when it is
// needed, and lives on with configurations that reach the same.
type web struct {
	make func() (drivers.HTTPClient, error)

	once   sync.Once
	client drivers.HTTPClient
	err    error
}

func (w *web) get() (drivers.HTTPClient, error) {
	w.once.Do(func() { w.client, w.err = w.make() })
	return w.client, w.err
}

// close ends the client's idle connections and what waits.
func (w *web) close() {
	if w == nil {
		return
	}
	w.once.Do(func() { w.err = errDisconnected })
	if w.client != nil {
		_ = w.client.Close() // there is nobody to tell
	}
}

// outfit gives a configuration its client: the one of the configuration before, unless it reaches something else now. A
// twin whose address is one of HTTP makes its requests by its connection.
func (e *Engine) outfit(id string, c, old *config) {
	if old == c {
		return
	}
	if old != nil && old.web != nil {
		if c.http != nil && c.http.Equal(old.http) && c.uri == old.uri && c.binding.Equal(old.binding) {
			c.web = old.web
			return
		}
		e.goFunc(old.web.close)
	}
	if c.http != nil && c.web == nil {
		c.web = &web{make: func() (drivers.HTTPClient, error) { return e.o.HTTP(c.dialled(id)) }}
	}
}

// dialled is the configuration's transport, as a connection is opened with it.
func (c *config) dialled(id string) drivers.Binding {
	b := drivers.Binding{Twin: id, URI: c.uri, HTTP: c.http}
	if c.binding != nil {
		b.Transport = *c.binding
	}
	return b
}

// resolve fills the settings into what the driver reaches outside.
func (c *config) resolve(s *spec, full map[string]any, text []byte) (err error) {
	via := s.via(c.uri)
	if c.binding, err = via.Resolve(text); err != nil {
		return invalid("/settings", "%v", err)
	}
	if c.http, err = s.manifest.HTTP.Resolve(text); err != nil {
		return invalid("/settings", "%v", err)
	}
	if !via.Dials(c.uri) || len(via.Subscribe)+len(via.Publish) == 0 && via.Will == nil {
		return nil
	}
	// Another's MQTT broker: what is heard and sent there is the connection's own affair.
	own := *c.binding
	if own.Subscribe, err = filters(via.Subscribe, full); err != nil {
		return err
	}
	if own.Publish, err = filters(via.Publish, full); err != nil {
		return err
	}
	c.publish = own.Publish
	if own.Will != nil {
		topics, err := filters([]string{own.Will.Topic}, full)
		if err != nil {
			return err
		}
		if len(topics) == 1 {
			w := *own.Will
			w.Topic = topics[0]
			c.will = &w
			own.Subscribe = append(own.Subscribe, topics[0])
		}
	}
	c.binding = &own
	return nil
}

// HTTP makes a request within what the twin's binding and the manifest name.
func (h *host) HTTP(_ context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	client, err := h.httpClient()
	if err != nil {
		return drivers.HTTPResponse{}, err
	}
	if err := h.allowed(); err != nil {
		return drivers.HTTPResponse{}, err
	}
	ctx, unblock := h.block()
	defer unblock()
	h.wrote.Store(true)
	return client.Do(ctx, r)
}

func (h *host) httpClient() (drivers.HTTPClient, error) {
	if h.link != nil {
		if client, ok := h.link.conn.(drivers.HTTPClient); ok {
			return client, nil
		}
	}
	switch {
	case h.e.o.HTTP == nil:
		return nil, fmt.Errorf("http: this node makes no requests: %w", drivers.ErrDenied)
	case h.cfg.web == nil:
		return nil, fmt.Errorf("http: the driver's manifest names no hosts, and the twin's address is none of http: %w", drivers.ErrDenied)
	}
	return h.cfg.web.get()
}

// Connection acts on the twin's connection, or says that its device sleeps or wakes.
func (h *host) Connection(_ context.Context, do drivers.ConnectionOp) error {
	switch do {
	case drivers.Sleep:
		return h.sleep(true)
	case drivers.Wake:
		return h.sleep(false)
	}
	if h.link == nil {
		return errDisconnected
	}
	if err := h.allowed(); err != nil {
		return err
	}
	switch conn := h.link.conn.(type) {
	case interface {
		StartTLS(ctx context.Context) error
		Reset()
	}:
		if do == drivers.CloseConnection {
			conn.Reset()
			return nil
		}
		ctx, unblock := h.block()
		defer unblock()
		h.wrote.Store(true)
		return conn.StartTLS(ctx)
	case interface{ Reset() }:
		if do == drivers.CloseConnection {
			conn.Reset()
			return nil
		}
	}
	return fmt.Errorf("connection: %s: this transport cannot: %w", do, drivers.ErrDenied)
}

// publisher is a connection to another's MQTT broker.
type publisher interface {
	Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error
}

// publishOut sends an MQTT message by the twin's own connection.
func (h *host) publishOut(to publisher, topic string, payload []byte, qos byte, retain bool) error {
	if err := h.allowed(); err != nil {
		return err
	}
	ctx, unblock := h.block()
	defer unblock()
	h.wrote.Store(true)
	return to.Publish(ctx, topic, payload, qos, retain)
}

// moved counts what a twin without a connection of its own hears and sends. A nil one counts nothing. Safe for concurrent use.
type moved struct {
	bytesIn, bytesOut, framesIn, framesOut, errs atomic.Uint64
	last                                         atomic.Pointer[string] // what went wrong
	// node counts for all such twins of the node.
	node *transport.Traffic
}

// failed notes what was not taken, or not answered.
func (m *moved) failed(err error) {
	if m != nil {
		text := err.Error()
		m.last.Store(&text)
		m.errs.Add(1)
		m.node.Failed()
	}
}

func (m *moved) received(n int) {
	if m != nil {
		m.bytesIn.Add(uint64(n))
		m.framesIn.Add(1)
		m.node.Received(n)
	}
}

func (m *moved) sent(n int) {
	if m != nil {
		m.bytesOut.Add(uint64(n))
		m.framesOut.Add(1)
		m.node.Sent(n)
	}
}

// movedBy gives the counter of a twin whose device comes by the node's broker or by webhook; nil for others.
func (t *twin) movedBy() *moved {
	switch b := t.cfg.binding; {
	case b == nil || b.Dials(t.cfg.uri):
	case b.Scheme == drivers.SchemeWebhook:
		return t.movedByHook()
	case t.moved == nil:
		t.moved = &moved{node: t.e.stats.mqtt}
	}
	return t.moved
}

// movedByHook gives the counter of the webhooks that came for the twin, however its device is reached.
func (t *twin) movedByHook() *moved {
	if t.byHook == nil {
		t.byHook = &moved{node: t.e.stats.webhook}
	}
	return t.byHook
}

// addTo adds what was counted; a counter that is nil has nothing.
func (m *moved) addTo(tr *pb.Traffic) *pb.Traffic {
	if m == nil {
		return tr
	}
	if tr == nil {
		tr = &pb.Traffic{}
	}
	tr.ReceivedBytes += m.bytesIn.Load()
	tr.SentBytes += m.bytesOut.Load()
	tr.ReceivedFrames += m.framesIn.Load()
	tr.SentFrames += m.framesOut.Load()
	tr.Errors += m.errs.Load()
	if text := m.last.Load(); text != nil && tr.LastError == "" {
		tr.LastError = *text
	}
	return tr
}

// traffic is what went to and from the twin's device in this life of the twin, webhooks included; nil where it has none.
func (t *twin) traffic() *pb.Traffic {
	if t.link == nil {
		return t.byHook.addTo(t.moved.addTo(nil))
	}
	var tr *pb.Traffic
	if r, ok := t.link.conn.(drivers.Reporter); ok {
		s := r.Stats()
		tr = &pb.Traffic{ReceivedBytes: s.BytesIn, SentBytes: s.BytesOut, ReceivedFrames: s.FramesIn, SentFrames: s.FramesOut,
			Reconnects: s.Reconnects, Errors: s.Errors, LastError: s.LastError}
	}
	return t.byHook.addTo(tr)
}

// asksHTTP says whether the connection makes the twin's HTTP requests.
func (l *link) asksHTTP() bool {
	if l == nil {
		return false
	}
	_, ok := l.conn.(drivers.HTTPClient)
	return ok
}
