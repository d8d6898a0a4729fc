package transport

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// runPerCommand serves a device that is dialled for what is sent to it. At first, and after a failure until it works
// again, it is dialled without a reason, so that the twin knows whether its device is there.
func (c *Conn) runPerCommand(ctx context.Context) {
	defer close(c.done)
	defer c.tell(false)
	c.greeted = true // it tells the sink itself
	reached, failures := false, 0
	for ctx.Err() == nil {
		var asked chan error
		switch {
		case reached:
			select {
			case asked = <-c.demand:
			case <-ctx.Done():
				return
			}
		case failures > 0:
			if asked = c.pauseForDemand(ctx, c.backoff.Delay(failures)); ctx.Err() != nil {
				return
			}
		}
		s, err := c.dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			failures++
			c.lost(reached, err)
			reached = false
			c.answer(asked, err)
			continue
		}
		if !c.adopt(s) {
			_ = s.Close()
			return
		}
		c.began()
		if !reached {
			c.tell(true)
			c.sink.Connected()
		}
		reached, failures = true, 0
		c.answer(asked, nil)
		err = c.drop(s, c.read(ctx, s, c.linger))
		if !ordinaryEnd(err) && ctx.Err() == nil {
			c.failed(err)
			c.log.Debug("connection lost", "error", err)
		}
	}
}

// lost tells of a failed dial.
func (c *Conn) lost(reached bool, err error) {
	c.failed(err)
	c.tell(false)
	if reached {
		c.sink.Disconnected(err)
		return
	}
	if f, ok := c.sink.(drivers.FailureSink); ok {
		f.Failed(err)
	}
}

func (c *Conn) answer(asked chan error, err error) {
	if asked != nil {
		asked <- err
	}
}

// ordinaryEnd says whether a session that was dialled per command ended as such sessions do.
func ordinaryEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, ErrIdle) || errors.Is(err, errReset)
}

func (c *Conn) pauseForDemand(ctx context.Context, d time.Duration) chan error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case asked := <-c.demand:
		return asked
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}
