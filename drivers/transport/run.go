package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// run is the connection's one goroutine: it alone calls the sink, so the calls come in order.
func (c *Conn) run(ctx context.Context) {
	defer close(c.done)
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		connected, err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		failures++
		if connected && time.Since(began) >= stableAfter {
			failures = 1
		}
		delay := c.backoff.Delay(failures)
		c.log.Debug("connection lost", "error", err, "retry_in", delay)
		if !pause(ctx, delay) {
			return
		}
	}
}

// session is one connection from dial to loss.
func (c *Conn) session(ctx context.Context) (connected bool, err error) {
	s, err := c.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.failed(err)
			if f, ok := c.sink.(drivers.FailureSink); ok {
				f.Failed(err)
			}
		}
		return false, err
	}
	if !c.adopt(s) {
		_ = s.Close()
		return false, ErrClosed
	}
	c.began()
	c.greeted = false
	c.greet(s)
	defer c.tell(false)
	err = c.drop(s, c.read(ctx, s, c.idle))
	if ctx.Err() == nil {
		c.failed(err)
		c.parted(err)
	}
	return c.greeted, err
}

// greet tells the sink of the connection, as soon as there is somebody at its other end.
func (c *Conn) greet(s Session) {
	if q, ok := s.(Quiet); c.greeted || ok && q.Silent() {
		return
	}
	c.greeted = true
	c.tell(true)
	c.sink.Connected()
}

// parted tells the sink that the connection it knows is no more, or that there never was one.
func (c *Conn) parted(err error) {
	if c.greeted {
		c.tell(false)
		c.sink.Disconnected(err)
	} else if f, ok := c.sink.(drivers.FailureSink); ok {
		f.Failed(err)
	}
}

func (c *Conn) began() {
	if c.connects.Add(1) > 1 {
		c.counters.reconnects.Inc()
	}
}

// dial begins a session within the time that a dial has.
func (c *Conn) dial(ctx context.Context) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	s, err := c.kind.Dial(ctx)
	if err != nil {
		return nil, dialReason(err)
	}
	return s, nil
}

// read gives frames to the sink until the session is lost. While the sink blocks, nothing is read, and the device feels
// the back-pressure of its transport.
func (c *Conn) read(ctx context.Context, s Session, idle time.Duration) error {
	if c.tokens != nil {
		c.tokens.Reset()
	}
	c.generation.Add(1)
	var expired atomic.Bool
	var timer *time.Timer
	if idle > 0 {
		timer = time.NewTimer(idle)
		ended := make(chan struct{})
		defer close(ended)
		defer timer.Stop()
		go c.watchIdle(s, idle, timer, &expired, ended)
	}
	for {
		generation := c.generation.Load()
		b, err := s.Receive()
		if c.generation.Load() != generation && c.tokens != nil {
			c.tokens.Reset()
			generation = c.generation.Load()
		}
		if len(b) > 0 || err == nil {
			if timer != nil {
				timer.Stop() // a sink that blocks is no silence of the device
			}
			c.received(b)
			c.greet(s)
			if err := c.deliver(ctx, b, generation); err != nil {
				return err
			}
			if timer != nil {
				timer.Reset(idle)
			}
		}
		if err != nil {
			if expired.Load() {
				return ErrIdle
			}
			return lossReason(err)
		}
	}
}

// watchIdle ends a session in which nothing came for so long; where it is dialled per command, nothing was sent either.
func (c *Conn) watchIdle(s Session, idle time.Duration, timer *time.Timer, expired *atomic.Bool, ended <-chan struct{}) {
	for {
		select {
		case <-timer.C:
		case <-ended:
			return
		}
		if sent := time.Since(time.Unix(0, c.lastSent.Load())); c.kind.PerCommand && sent < idle {
			timer.Reset(idle - sent)
			continue
		}
		expired.Store(true)
		_ = s.Close()
		return
	}
}

func (c *Conn) received(b []byte) {
	c.lastSeen.Store(time.Now().UnixNano())
	c.bytesIn.Add(uint64(len(b)))
	c.counters.Received(len(b))
	if t := c.trace.Load(); t != nil {
		(*t)(Received, b)
	}
}

// deliver gives what came to the sink, as frames. What is left when TLS begins is dropped.
func (c *Conn) deliver(ctx context.Context, b []byte, generation uint64) error {
	if c.tokens == nil {
		if ctx.Err() != nil {
			return ErrClosed
		}
		c.framesIn.Add(1)
		c.sink.Received(append([]byte{}, b...))
		return nil
	}
	c.tokens.Push(b)
	for {
		frame, ok, err := c.tokens.Next()
		if err != nil {
			c.counters.tooLong.Inc()
			return err
		}
		if !ok {
			return nil
		}
		if ctx.Err() != nil {
			return ErrClosed
		}
		if c.generation.Load() != generation {
			c.tokens.Reset()
			return nil
		}
		c.framesIn.Add(1)
		c.sink.Received(frame)
	}
}

// dialReason words a failed dial so that the same reason has the same text: a name server's own port, which changes with
// each question, is left out.
func dialReason(err error) error {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return err
	}
	why := "the name cannot be looked up"
	switch {
	case dns.IsNotFound:
		why = "no such host"
	case dns.IsTimeout:
		why = "the name server does not answer"
	}
	return &dialError{"dial: lookup " + dns.Name + ": " + why, err}
}

type dialError struct {
	text  string
	cause error
}

func (e *dialError) Error() string { return e.text }
func (e *dialError) Unwrap() error { return e.cause }

// lossReason words what the operator reads as the twin's fault.
func lossReason(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("closed by the device: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrIdle
	}
	return err
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// IsEOF says whether an error is the ordinary end of a stream.
func IsEOF(err error) bool { return errors.Is(err, io.EOF) }
