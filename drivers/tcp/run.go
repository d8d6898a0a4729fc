package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
	conn, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		if ctx.Err() == nil {
			err = dialReason(err)
			c.failed(err)
			if s, ok := c.sink.(drivers.FailureSink); ok {
				s.Failed(err)
			}
		}
		return false, err
	}
	if !c.adopt(conn) {
		_ = conn.Close()
		return false, ErrClosed
	}
	if c.connects.Add(1) > 1 {
		c.counters.reconnects.Inc()
	}
	c.counters.open.Inc()
	defer c.counters.open.Dec()
	c.sink.Connected()
	err = c.read(ctx, conn)
	c.drop(conn, err)
	if ctx.Err() == nil {
		c.failed(err)
		c.sink.Disconnected(err)
	}
	return true, err
}

// read gives frames to the sink until the connection is lost. While the sink blocks, nothing is read, and the device
// feels TCP's own back-pressure.
func (c *Conn) read(ctx context.Context, conn net.Conn) error {
	c.tokens.Reset()
	chunk := make([]byte, readChunk)
	for {
		if c.idle > 0 {
			if err := conn.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
				return lossReason(err)
			}
		}
		n, err := conn.Read(chunk)
		if n > 0 {
			c.received(chunk[:n])
			if err := c.cutFrames(ctx); err != nil {
				return err
			}
		}
		if err != nil {
			return lossReason(err)
		}
	}
}

func (c *Conn) received(chunk []byte) {
	c.lastSeen.Store(time.Now().UnixNano())
	c.bytesIn.Add(uint64(len(chunk)))
	c.counters.bytesIn.Add(len(chunk))
	if t := c.trace.Load(); t != nil {
		(*t)(Received, chunk)
	}
	c.tokens.Push(chunk)
}

func (c *Conn) cutFrames(ctx context.Context) error {
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
	return &dialError{"dial tcp: lookup " + dns.Name + ": " + why, err}
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
