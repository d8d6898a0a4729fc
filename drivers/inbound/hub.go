package inbound

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// Hub has the twins' ends of the connections in which devices called in. Its methods may be called concurrently.
type Hub struct {
	node  string
	write Write

	mu       sync.Mutex
	twins    map[string]*end
	progress map[string]*progress // of each twin's last connection
}

// NewHub makes one for a node.
func NewHub(node string, write Write) *Hub {
	return &Hub{node: node, write: write, twins: map[string]*end{}, progress: map[string]*progress{}}
}

// Open waits for a twin's device to call in; it is the Opener of tcp-in and udp-in. The twin is connected while its
// device is.
func (h *Hub) Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t.Scheme, err)
	}
	switch from, err := a.Callers(t); {
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", t.Scheme, err)
	case len(from) == 0:
		return nil, fmt.Errorf("open %s: nobody may call in: the address says by ?from= who may, as in %s", t.Scheme, transport.Example(t.Scheme))
	}
	if t.IdleTimeoutMS < 0 {
		return nil, fmt.Errorf("open %s: idle_timeout_ms %d: want 0 or more", t.Scheme, t.IdleTimeoutMS)
	}
	e := &end{hub: h, twin: o.Binding.Twin, scheme: t.Scheme, port: a.Port, arrived: make(chan *session, 1), gone: make(chan struct{})}
	o.Backoff = transport.Backoff{Min: 10 * time.Millisecond, Max: 10 * time.Millisecond} // waiting for a call costs nothing
	e.sink, _ = o.Sink.(drivers.TroubleSink)
	if o.Sink != nil {
		o.Sink = &counted{o.Sink, e}
	}
	o.Binding.Transport.IdleTimeoutMS = 0 // the node that has the connection minds that
	o.DialTimeout = 0
	conn, err := transport.Open(o, transport.Kind{Name: fmt.Sprintf("%s port %d", t.Scheme, a.Port), Dial: e.dial, DialTimeout: 1 << 62})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.twins[e.twin] = e
	h.mu.Unlock()
	return &conned{Conn: conn, end: e}, nil
}

// Review tells the twins what keeps their devices from calling in, or that nothing does any more. why gives it for a twin and its
// port; it is called for all twins that are open here.
func (h *Hub) Review(why func(twin, scheme string, port int) error) {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.twins))
	maps.DeleteFunc(h.progress, func(_ string, p *progress) bool { return p.past() })
	h.mu.Unlock()
	for _, e := range all {
		e.trouble(why(e.twin, e.scheme, e.port))
	}
}

// trouble tells the twin, as long as its connection is not closed.
func (e *end) trouble(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.sink == nil || err == nil && !e.troubled {
		return
	}
	e.troubled = err != nil
	e.sink.Troubled(err)
}

// conned takes its end off the hub when it is closed.
type conned struct {
	*transport.Conn
	end *end
}

// Close implements drivers.Conn.
func (c *conned) Close() error {
	c.Retire()
	c.end.mu.Lock()
	c.end.closed = true
	c.end.mu.Unlock()
	c.end.leaving.Do(func() { close(c.end.gone) })
	return c.Conn.Close()
}

// Retire says that the twin leaves this node: what its device says from now on is for the next one. What was taken comes
// to its end here, and may be answered.
func (c *conned) Retire() {
	h := c.end.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.twins[c.end.twin] == c.end {
		delete(h.twins, c.end.twin)
	}
}

// Reset has the device let go of, wherever it called in.
func (c *conned) Reset() {
	c.end.mu.Lock()
	s := c.end.live
	c.end.mu.Unlock()
	if s != nil {
		go s.tellClose()
	}
	c.Conn.Reset()
}

// Take takes a word of a connection for a twin of this node. It blocks until the twin has taken it, or ctx ends, and says what
// the twin has handled. A word that was told before counts once.
func (h *Hub) Take(ctx context.Context, m *actorv1.Link) (*actorv1.LinkTaken, error) {
	h.mu.Lock()
	e, p := h.twins[m.Twin], h.progress[m.Twin]
	h.mu.Unlock()
	if e != nil && !m.Settle {
		return e.take(ctx, m)
	}
	if !m.Settle || !p.of(m) {
		return nil, fmt.Errorf("twin %s: %w", m.Twin, ErrNoTwin)
	}
	select { // what was taken is handled until the twin is gone
	case <-p.ownEnd().gone:
		return p.taken(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// end is a twin's end.
type end struct {
	hub     *Hub
	twin    string
	scheme  string
	port    int
	sink    drivers.TroubleSink // nil: it does not want to hear of trouble
	arrived chan *session       // the newest link, which nobody took yet
	gone    chan struct{}
	leaving sync.Once

	taking   sync.Mutex // one word at a time
	tickets  tickets    // of the frames on their way to the sink
	mu       sync.Mutex
	live     *session
	closed   bool
	troubled bool
}

// dial waits for a link.
func (e *end) dial(ctx context.Context) (transport.Session, error) {
	select {
	case s := <-e.arrived:
		return s, nil
	case <-e.gone:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *end) take(ctx context.Context, m *actorv1.Link) (*actorv1.LinkTaken, error) {
	e.taking.Lock()
	defer e.taking.Unlock()
	s, p := e.sessionOf(m)
	if s == nil {
		return p.taken(), nil
	}
	s.quiet.Reset(silentAfter)
	for i, frame := range m.Frames {
		number := m.Sequence + uint64(i)
		if !p.wants(number) {
			continue
		}
		e.tickets.add(p, number)
		select {
		case s.frames <- frame:
			p.took(number)
		case <-s.ended:
			e.tickets.takeBack()
			return nil, fmt.Errorf("twin %s: %w", e.twin, ErrNoTwin)
		case <-ctx.Done():
			e.tickets.takeBack()
			return nil, ctx.Err()
		}
		s.quiet.Reset(silentAfter)
	}
	if m.Closed {
		s.over(errors.New(m.Reason))
	}
	return p.taken(), nil
}

// sessionOf gives the session that a word is for, begun where there is none. nil: there is nothing to tell it; the progress says
// what the other side is to know.
func (e *end) sessionOf(m *actorv1.Link) (*session, *progress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.live
	if s != nil && s.node == m.Node && m.Link < s.link {
		return nil, finished(m) // another has replaced it
	}
	p := e.hub.progressOf(e, m)
	if s != nil && (s.node != m.Node || s.link != m.Link) {
		s.over(errors.New("the device called in again"))
		if s.node != m.Node { // a node ends its own former one by itself
			go s.tellClose()
		}
		s = nil
	}
	if next := p.taken().Next; m.Sequence > next || s == nil && m.Closed && m.Sequence+uint64(len(m.Frames)) <= next {
		return nil, p // it is told from there on; or it is over, and all of it was told
	}
	if s == nil {
		s = &session{end: e, node: m.Node, link: m.Link, frames: make(chan []byte), ended: make(chan struct{})}
		s.quiet = time.AfterFunc(silentAfter, func() { s.over(errors.New("the node that has the connection is silent")) })
		e.live = s
		select {
		case <-e.arrived: // nobody took that one
		default:
		}
		e.arrived <- s
	}
	return s, p
}

// session is a link, as the twin's connection has it.
type session struct {
	end    *end
	node   string
	link   uint64
	frames chan []byte
	quiet  *time.Timer
	once   sync.Once
	ended  chan struct{}
	why    error
}

// over ends the session without a word to the device.
func (s *session) over(why error) {
	s.once.Do(func() {
		s.why = why
		s.quiet.Stop()
		close(s.ended)
		go func() {
			s.end.mu.Lock()
			if s.end.live == s {
				s.end.live = nil
			}
			s.end.mu.Unlock()
		}()
	})
}

// Receive implements transport.Session.
func (s *session) Receive() ([]byte, error) {
	select {
	case f := <-s.frames:
		return f, nil
	case <-s.ended:
		return nil, s.why
	}
}

// Send implements transport.Session.
func (s *session) Send(ctx context.Context, frame []byte) (int, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, writeWithin)
		defer cancel()
	}
	err := s.end.hub.write(ctx, s.node, &actorv1.LinkWrite{Twin: s.end.twin, Link: s.link, Frame: frame, Node: s.end.hub.node})
	if err != nil {
		return 0, err
	}
	return len(frame), nil
}

func (s *session) tellClose() {
	ctx, cancel := context.WithTimeout(context.Background(), writeWithin)
	defer cancel()
	_ = s.end.hub.write(ctx, s.node, &actorv1.LinkWrite{Twin: s.end.twin, Link: s.link, Close: true, Node: s.end.hub.node})
}

// Close implements transport.Session. The connection itself stays where the twin only goes to another node: that one
// will hear of it. Where the driver asked for its end, the device is let go.
func (s *session) Close() error {
	s.over(net.ErrClosed)
	return nil
}
