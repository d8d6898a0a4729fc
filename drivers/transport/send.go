package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// Send writes one frame as it is; a delimiter is the driver's to add. It blocks until the kernel has taken the frame or
// ctx ends, at most 10 s where ctx has no deadline. While disconnected it fails at once with ErrNotConnected; a device
// that is dialled per command is dialled, and an empty frame does no more than that. A frame that could be written only
// in part closes the connection, since the device could not find the next one.
func (c *Conn) Send(ctx context.Context, frame []byte) error {
	unlock, err := c.lockSending(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	live, err := c.obtain(ctx)
	if err != nil {
		return fmt.Errorf("send to %s: %w", c.kind.Name, err)
	}
	if len(frame) == 0 && c.kind.PerCommand {
		return nil
	}
	if t := c.trace.Load(); t != nil {
		(*t)(Sent, frame) // before the write, or a quick device's answer would come first in the trace
	}
	n, err := live.Send(ctx, frame)
	if err != nil && n == 0 && c.kind.PerCommand && ctx.Err() == nil && !kept(n, err) {
		n, err = c.resend(ctx, live, frame) // the device let go of the connection meanwhile
	}
	c.lastSent.Store(time.Now().UnixNano())
	c.bytesOut.Add(uint64(n))
	c.counters.Sent(n)
	if err != nil {
		if !kept(n, err) {
			_ = live.Close() // the reader reports the loss
		}
		c.failed(err)
		return fmt.Errorf("send to %s: %w", c.kind.Name, err)
	}
	c.framesOut.Add(1)
	return nil
}

// resend sends on a new session what the one before did not take a byte of.
func (c *Conn) resend(ctx context.Context, old Session, frame []byte) (int, error) {
	_ = old.Close()
	c.mu.Lock()
	if c.live == old {
		c.live = nil
	}
	c.mu.Unlock()
	live, err := c.obtain(ctx)
	if err != nil {
		return 0, err
	}
	return live.Send(ctx, frame)
}

// ErrKept marks an error of Session.Send that leaves the session as good as it was.
var ErrKept = errors.New("nothing was sent")

// kept says whether a frame that could not be sent leaves the session as it was: nothing of it went out, and the frame
// was what was wrong.
func kept(n int, err error) bool {
	return n == 0 && (errors.Is(err, ErrKept) || errors.Is(err, drivers.ErrInvalid) || errors.Is(err, drivers.ErrDenied) ||
		errors.Is(err, drivers.ErrTooLarge))
}

func (c *Conn) lockSending(ctx context.Context) (unlock func(), err error) {
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("send to %s: %w", c.kind.Name, ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		<-c.sending
		return nil, fmt.Errorf("send to %s: %w", c.kind.Name, err)
	}
	return func() { <-c.sending }, nil
}

// StartTLS begins TLS in the session that is open, by the tls options of the binding. What was received and not yet given
// to the sink is dropped: it came in the clear. A failed handshake loses the connection.
func (c *Conn) StartTLS(ctx context.Context) error {
	unlock, err := c.lockSending(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	live, err := c.current()
	if err != nil {
		return fmt.Errorf("start tls with %s: %w", c.kind.Name, err)
	}
	s, ok := live.(Securer)
	if !ok {
		return fmt.Errorf("start tls with %s: the transport cannot, or has no tls options: %w", c.kind.Name, drivers.ErrDenied)
	}
	c.generation.Add(1)
	if err := s.StartTLS(ctx); err != nil {
		if !errors.Is(err, drivers.ErrDenied) {
			_ = live.Close()
			c.failed(err)
		}
		return fmt.Errorf("start tls with %s: %w", c.kind.Name, err)
	}
	return nil
}

// obtain gives the live session, or has one dialled where that is done per command.
func (c *Conn) obtain(ctx context.Context) (Session, error) {
	live, err := c.current()
	if err == nil || !c.kind.PerCommand || errors.Is(err, ErrClosed) {
		return live, err
	}
	answer := make(chan error, 1)
	select {
	case c.demand <- answer:
	case <-c.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case err := <-answer:
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
		}
	case <-c.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return c.current()
}
