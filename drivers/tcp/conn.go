// Package tcp carries a twin's bytes over TCP: it dials, cuts the stream into frames, keeps the connection alive and
// comes back after a loss.
//
// It knows frames, not their meaning. A frame is sent whole or its connection is closed; nothing is queued while
// disconnected, so a driver never learns late that a command went nowhere.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
)

const (
	// dialTimeout: a device in the same building answers within milliseconds.
	dialTimeout = 5 * time.Second
	// writeTimeout holds where the caller's context has no deadline.
	writeTimeout = 10 * time.Second
	// stableAfter: a connection that lived so long was a good one, and the back-off begins anew.
	stableAfter = 10 * time.Second
	// readChunk is the read buffer of a connection, in bytes.
	readChunk = 4 << 10
)

var (
	// ErrNotConnected says that nothing was sent because there is no connection now.
	ErrNotConnected = errors.New("not connected")
	// ErrClosed says that the connection was closed by its owner.
	ErrClosed = errors.New("connection closed")
	// ErrIdle says that the device sent nothing for the idle timeout.
	ErrIdle = errors.New("nothing received within the idle timeout")
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

// TraceFunc hears every byte, sent ones right before they are written. It must not block, and the bytes are valid during the call only. It is called from the
// goroutine that reads and from those that send.
type TraceFunc func(d Direction, b []byte)

// Options of a connection. URI and Sink are needed, the rest has defaults.
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
}

// Stats is what a connection has seen.
type Stats struct {
	Connected bool
	// LastSeen is when bytes came last; zero: never.
	LastSeen          time.Time
	BytesIn, BytesOut uint64
	FramesIn          uint64
	// Reconnects counts connections after the first.
	Reconnects uint64
	// Errors counts failed dials, losses and failed sends.
	Errors uint64
	// LastError is the newest of them; empty: none.
	LastError string
}

// Conn is a connection that comes back by itself. It implements drivers.Conn.
type Conn struct {
	addr     string
	sink     drivers.Sink
	log      *slog.Logger
	backoff  Backoff
	idle     time.Duration
	dialer   net.Dialer
	tokens   *Tokenizer
	trace    atomic.Pointer[TraceFunc]
	counters *counters

	cancel  context.CancelFunc
	done    chan struct{}
	sending chan struct{} // holds one token: the right to write

	mu     sync.Mutex
	live   net.Conn // nil: not connected
	closed bool
	last   error

	lastSeen                    atomic.Int64 // nanoseconds since 1970
	bytesIn, bytesOut, framesIn atomic.Uint64
	connects, errs              atomic.Uint64
}

var _ drivers.Conn = (*Conn)(nil)

// Open checks the options and begins to connect; it does not wait for the connection. A wrong address or tokenizer is
// an error at once, a device that does not answer is not.
func Open(o Options) (*Conn, error) {
	addr, err := ParseAddress(o.Binding.URI, o.Binding.Transport.DefaultPort)
	if err != nil {
		return nil, fmt.Errorf("open tcp: %w", err)
	}
	tokens, err := NewTokenizer(o.Binding.Transport.Tokenizer)
	if err != nil {
		return nil, fmt.Errorf("open tcp %s: %w", addr, err)
	}
	if o.Sink == nil {
		return nil, fmt.Errorf("open tcp %s: no sink", addr)
	}
	if o.Binding.Transport.IdleTimeoutMS < 0 {
		return nil, fmt.Errorf("open tcp %s: idle_timeout_ms %d: want 0 or more", addr, o.Binding.Transport.IdleTimeoutMS)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = dialTimeout
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Conn{
		addr: addr, sink: o.Sink, log: o.Logger.With("device", addr), backoff: o.Backoff.withDefaults(), tokens: tokens,
		idle: time.Duration(o.Binding.Transport.IdleTimeoutMS) * time.Millisecond,
		dialer: net.Dialer{
			Timeout: o.DialTimeout,
			// A device that lost power is noticed after about 30 s, also where nothing is sent.
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		},
		counters: newCounters(o.Metrics), cancel: cancel, done: make(chan struct{}), sending: make(chan struct{}, 1),
	}
	c.SetTrace(o.Trace)
	go c.run(ctx)
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
func (c *Conn) Stats() Stats {
	s := Stats{
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), FramesIn: c.framesIn.Load(), Errors: c.errs.Load(),
	}
	if n := c.connects.Load(); n > 1 {
		s.Reconnects = n - 1
	}
	if at := c.lastSeen.Load(); at != 0 {
		s.LastSeen = time.Unix(0, at)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Connected = c.live != nil
	if c.last != nil {
		s.LastError = c.last.Error()
	}
	return s
}

// Send writes one frame as it is; a delimiter is the driver's to add. It blocks until the kernel has taken the frame or
// ctx ends, at most 10 s where ctx has no deadline. While disconnected it fails at once with ErrNotConnected. A frame
// that could be written only in part closes the connection, since the device could not find the next one.
func (c *Conn) Send(ctx context.Context, frame []byte) error {
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-ctx.Done():
		return fmt.Errorf("send to %s: %w", c.addr, ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send to %s: %w", c.addr, err)
	}
	live, err := c.current()
	if err != nil {
		return fmt.Errorf("send to %s: %w", c.addr, err)
	}
	if t := c.trace.Load(); t != nil {
		(*t)(Sent, frame) // before the write, or a quick device's answer would come first in the trace
	}
	n, err := writeFrame(ctx, live, frame)
	c.bytesOut.Add(uint64(n))
	c.counters.bytesOut.Add(n)
	if err != nil {
		_ = live.Close() // the reader reports the loss
		c.failed(err)
		return fmt.Errorf("send to %s: %w", c.addr, err)
	}
	return nil
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

func (c *Conn) current() (net.Conn, error) {
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

// adopt makes conn the live one; false: closed meanwhile.
func (c *Conn) adopt(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.live = conn
	return true
}

func (c *Conn) drop(conn net.Conn, err error) {
	_ = conn.Close()
	c.mu.Lock()
	c.live, c.last = nil, err
	c.mu.Unlock()
}

func (c *Conn) failed(err error) {
	c.errs.Add(1)
	c.counters.errors.Inc()
	c.mu.Lock()
	c.last = err
	c.mu.Unlock()
}

// writeFrame writes within ctx. A context that is cancelled without a deadline ends the write, too.
func writeFrame(ctx context.Context, conn net.Conn, frame []byte) (int, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(writeTimeout)
	}
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	n, err := conn.Write(frame)
	stop()
	if err == nil {
		return n, nil
	}
	cause := ctx.Err()
	if cause == nil && ok && errors.Is(err, os.ErrDeadlineExceeded) {
		cause = context.DeadlineExceeded // the socket's timer was a little earlier than the context's
	}
	if cause != nil {
		err = fmt.Errorf("%w after %d of %d bytes", cause, n, len(frame))
	}
	return n, err
}
