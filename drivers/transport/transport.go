// Package transport carries a twin's bytes to its device and back: it dials, cuts streams into frames, keeps the
// connection alive and comes back after a loss. Each scheme's own part (a folder beside tcp, such as drivers/udp) makes
// sessions; what all have in common is here: back-off, order, limits, counters, traces, and which addresses may be reached.
//
// It knows frames, not their meaning. A frame is sent whole or its connection is closed; nothing is queued while
// disconnected, so a driver never learns late that a command went nowhere.
package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sockets"
)

const (
	// dialTimeout: a device in the same building answers within milliseconds.
	dialTimeout = 5 * time.Second
	// writeTimeout holds where the caller's context has no deadline.
	writeTimeout = 10 * time.Second
	// stableAfter: a connection that lived so long was a good one, and the back-off begins anew.
	stableAfter = 10 * time.Second
	// perCommandIdle: a device that is dialled for each command is let go after so long without a byte.
	perCommandIdle = 2 * time.Second
	// ReadChunk is the read buffer of a stream, in bytes.
	ReadChunk = 4 << 10
)

var (
	// ErrNotConnected says that nothing was sent because there is no connection now.
	ErrNotConnected = fmt.Errorf("%w", drivers.ErrDisconnected)
	// ErrClosed says that the connection was closed by its owner.
	ErrClosed = errors.New("connection closed")
	// ErrIdle says that the device sent nothing for the idle timeout.
	ErrIdle = errors.New("nothing received within the idle timeout")
	// errReset: the driver asked for a new connection.
	errReset = errors.New("closed by the driver")
)

// Direction of traced bytes.
type Direction uint8

const (
	// Received bytes came from the device.
	Received Direction = iota
	// Sent bytes went to the device.
	Sent
)

// String gives "received" or "sent".
func (d Direction) String() string {
	if d == Sent {
		return "sent"
	}
	return "received"
}

// TraceFunc hears every byte, sent ones right before they are written. It must not block, and the bytes are valid during
// the call only. It is called from the goroutine that reads and from those that send.
type TraceFunc func(d Direction, b []byte)

// Options of a connection. Binding and Sink are needed, the rest has defaults.
type Options struct {
	Binding drivers.Binding
	Sink    drivers.Sink
	// Trace from the start on; SetTrace changes it.
	Trace TraceFunc
	// Logger; nil: none.
	Logger *slog.Logger
	// Metrics gets the counters that all connections of the node share; nil: none.
	Metrics *metrics.Set
	// Backoff between attempts.
	Backoff Backoff
	// DialTimeout in place of 5 s.
	DialTimeout time.Duration
	// Lookup gives the addresses of a host name; nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Outgoing is told of connections to this machine; nil: nobody is.
	Outgoing *sockets.Outgoing
	// SerialPaths are patterns (path.Match) of the serial lines that twins may name; nil: DefaultSerialPaths.
	SerialPaths []string
}

// Session is one connection, from its dial to its loss. Receive and Send are called by one goroutine each at a time.
type Session interface {
	// Receive blocks until something comes: the next bytes of a stream, or a whole message. What it returns is the
	// caller's until the next Receive. An error ends the session.
	Receive() ([]byte, error)
	// Send writes a frame within ctx, at most 10 s where that has no deadline, and says how many bytes went out.
	Send(ctx context.Context, frame []byte) (int, error)
	// Close ends both. It may be called at any time, and more than once.
	Close() error
}

// Securer is a Session that can begin TLS. It returns when the handshake is done; the caller does not Send meanwhile.
type Securer interface {
	StartTLS(ctx context.Context) error
}

// Quiet is a Session to which nobody answers when it begins. The twin counts as connected once somebody was heard; until
// then it may send all the same.
type Quiet interface {
	Session
	// Silent says that nobody was heard yet. Conn asks after each Receive, and from the same goroutine.
	Silent() bool
}

// Kind is what a scheme brings to its connections.
type Kind struct {
	// Name of the device's end for messages, such as 10.0.0.7:23.
	Name string
	// Dial begins a session. It keeps to ctx.
	Dial func(ctx context.Context) (Session, error)
	// Stream: Receive gives pieces of a stream, which the binding's tokenizer cuts.
	Stream bool
	// PerCommand: sessions are dialled for what is sent.
	PerCommand bool
	// DialTimeout where the scheme needs more than the default.
	DialTimeout time.Duration
}

// Conn is a twin's connection over any scheme.
type Conn struct {
	kind       Kind
	sink       drivers.Sink
	log        *slog.Logger
	backoff    Backoff
	tokens     *Tokenizer // nil: messages come whole
	idle       time.Duration
	linger     time.Duration // of a session that is dialled per command
	timeout    time.Duration // of a dial
	counters   *counters
	trace      atomic.Pointer[TraceFunc]
	cancel     context.CancelFunc
	done       chan struct{}
	sending    chan struct{} // holds one token: the right to write
	demand     chan chan error
	greeted    bool          // the sink knows of the session; run's own
	generation atomic.Uint64 // counts what makes received bytes void: a session's begin, a start of TLS

	mu     sync.Mutex
	live   Session // nil: not connected
	reason error   // why live was closed on purpose
	up     bool    // the sink was told so
	closed bool
	last   error

	lastSeen, lastSent                     atomic.Int64 // nanoseconds since 1970
	bytesIn, bytesOut, framesIn, framesOut atomic.Uint64
	connects, errs                         atomic.Uint64
}

var _ drivers.Reporter = (*Conn)(nil)

// Open checks the options that all schemes share and begins to connect; it does not wait for the connection.
func Open(o Options, k Kind) (*Conn, error) {
	t := &o.Binding.Transport
	fail := func(err error) (*Conn, error) { return nil, fmt.Errorf("open %s %s: %w", t.Scheme, k.Name, err) }
	tokens, err := NewTokenizer(t.Tokenizer)
	if err != nil {
		return fail(err)
	}
	if !k.Stream {
		tokens = nil
	}
	switch {
	case o.Sink == nil:
		return fail(errors.New("no sink"))
	case t.IdleTimeoutMS < 0:
		return fail(fmt.Errorf("idle_timeout_ms %d: want 0 or more", t.IdleTimeoutMS))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Conn{
		kind: k, sink: o.Sink, log: o.Logger.With("device", k.Name), backoff: o.Backoff.WithDefaults(), tokens: tokens,
		idle: time.Duration(t.IdleTimeoutMS) * time.Millisecond, linger: time.Duration(t.PerCommandIdleMS) * time.Millisecond,
		timeout: o.DialTimeout, counters: newCounters(o.Metrics, t.Scheme), done: make(chan struct{}),
		sending: make(chan struct{}, 1), demand: make(chan chan error),
	}
	if c.timeout <= 0 {
		c.timeout = max(k.DialTimeout, dialTimeout)
	}
	if c.linger <= 0 {
		c.linger = perCommandIdle
	}
	c.SetTrace(o.Trace)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	if k.PerCommand {
		go c.runPerCommand(ctx)
	} else {
		go c.run(ctx)
	}
	return c, nil
}

// SetTrace begins or, with nil, ends the trace. It may be called at any time; without a trace nothing is spent on it.
func (c *Conn) SetTrace(f TraceFunc) {
	if f == nil {
		c.trace.Store(nil)
		return
	}
	c.trace.Store(&f)
}

// Stats of the connection. It does not block.
func (c *Conn) Stats() drivers.Stats {
	s := drivers.Stats{
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(),
		Errors: c.errs.Load(),
	}
	if n := c.connects.Load(); n > 1 {
		s.Reconnects = n - 1
	}
	if at := c.lastSeen.Load(); at != 0 {
		s.LastSeen = time.Unix(0, at)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Connected = c.up
	if c.last != nil {
		s.LastError = c.last.Error()
	}
	return s
}

// Note counts what a session moved besides Receive and Send, and shows it to a trace: a received or sent message.
func (c *Conn) Note(d Direction, message []byte) {
	n := len(message)
	if d == Sent {
		c.bytesOut.Add(uint64(n))
		c.counters.Sent(n)
		c.framesOut.Add(1)
	} else {
		c.lastSeen.Store(time.Now().UnixNano())
		c.bytesIn.Add(uint64(n))
		c.counters.Received(n)
		c.framesIn.Add(1)
	}
	if t := c.trace.Load(); t != nil {
		(*t)(d, message)
	}
}

// Reset drops the connection; it is dialled again. Without one it does nothing.
func (c *Conn) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != nil {
		c.reason = errReset
		_ = c.live.Close()
		c.live, c.last = nil, errReset
	}
}

// Close ends the connection and its reconnecting. It returns when no further call to the Sink comes, so it waits for a
// Received that blocks, and must not be called from within the Sink.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.live != nil {
		_ = c.live.Close()
	}
	c.mu.Unlock()
	c.cancel()
	<-c.done
	return nil
}

func (c *Conn) current() (Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, ErrClosed
	case c.live != nil:
		return c.live, nil
	case c.last != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, c.last)
	}
	return nil, ErrNotConnected
}

// adopt makes s the live session; false: closed meanwhile.
func (c *Conn) adopt(s Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.live, c.reason = s, nil
	return true
}

// drop ends the session, and gives the reason for which it was closed on purpose in place of err.
func (c *Conn) drop(s Session, err error) error {
	_ = s.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil {
		err = c.reason
	}
	c.live, c.last = nil, err
	return err
}

// tell sets what the statistics say of the connection.
func (c *Conn) tell(up bool) {
	c.mu.Lock()
	was := c.up
	c.up = up
	c.mu.Unlock()
	switch {
	case up && !was:
		c.counters.open.Inc()
	case !up && was:
		c.counters.open.Dec()
	}
}

func (c *Conn) failed(err error) {
	c.errs.Add(1)
	c.counters.Failed()
	c.mu.Lock()
	c.last = err
	c.mu.Unlock()
}
