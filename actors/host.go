package actors

import (
	"context"

	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
)

var errDisconnected = fmt.Errorf("device: %w", drivers.ErrDisconnected)

// host is what a running call reaches. It belongs to one call, and is used from its goroutine.
type host struct {
	e       *Engine
	en      *entry
	own     *cluster.Ownership
	spec    *spec
	link    *link
	cfg     *config
	wrote   atomic.Bool
	lines   int
	compute compute
}

var _ drivers.Host = (*host)(nil)

// maxLines bounds what one call may log.
const maxLines = 64

// allowed says whether the device may be written to, right now.
func (h *host) allowed() error {
	if h.e.owned[h.en.slot].Load() != h.own {
		return fmt.Errorf("twin %s: %w", h.en.id, cluster.ErrNotOwner)
	}
	if !h.e.cluster.LeaseValid() {
		h.e.stats.drop(dropLease)
		return errLease
	}
	return nil
}

// Send writes a frame.
func (h *host) Send(ctx context.Context, frame []byte) error {
	if h.link == nil {
		return errDisconnected
	}
	h.block()
	defer h.unblock()
	return h.send(ctx, frame)
}

func (h *host) send(ctx context.Context, frame []byte) error {
	if err := h.allowed(); err != nil {
		return err
	}
	h.wrote.Store(true)
	return h.link.send(ctx, frame)
}

// Request sends a frame and waits for the next one that arrives.
func (h *host) Request(ctx context.Context, frame []byte, timeout time.Duration) ([]byte, error) {
	if h.link == nil {
		return nil, errDisconnected
	}
	h.block()
	defer h.unblock()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	answer, stop := h.link.await()
	defer stop()
	if err := h.send(ctx, frame); err != nil {
		return nil, err
	}
	select {
	case a := <-answer:
		return a.frame, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Publish sends an MQTT message within the topics of the twin's binding.
func (h *host) Publish(_ context.Context, topic string, payload []byte, qos byte, retain bool) error {
	ok := false
	for _, f := range h.cfg.publish {
		ok = ok || matchTopic(f, topic)
	}
	if !ok || strings.ContainsAny(topic, "+#\x00") {
		return fmt.Errorf("publish to %q: not among the twin's topics: %w", topic, drivers.ErrDenied)
	}
	p := h.e.publish.Load()
	if p == nil {
		return errDisconnected
	}
	if err := h.allowed(); err != nil {
		return err
	}
	h.wrote.Store(true)
	h.e.tracers.sent(h.en.id, topic, payload)
	return (*p)(topic, payload, qos, retain)
}

// Log writes a line to the twin's log.
func (h *host) Log(level, text string) {
	h.lines++
	if h.lines > maxLines {
		h.e.stats.drop(dropLog)
		return
	}
	if len(text) > 1024 {
		text = text[:1024]
	}
	h.en.tokens.Add(1)
	h.en.send(&logged{level: level, text: text, time: stamp()})
}

// block gives the call's share of the processor away while it waits for something outside.
func (h *host) block() {
	h.compute.pause()
	h.e.pool.Block(&h.spec.key)
}

func (h *host) unblock() {
	h.e.pool.Unblock(&h.spec.key)
	h.compute.resume()
}

// compute bounds what a call computes; waiting does not count.
type compute struct {
	timer   *time.Timer
	left    time.Duration
	since   time.Time
	expired atomic.Bool
}

func (c *compute) begin(limit time.Duration, cancel context.CancelFunc) {
	c.left, c.since = limit, time.Now()
	c.timer = time.AfterFunc(limit, func() {
		c.expired.Store(true)
		cancel()
	})
}

func (c *compute) pause() {
	if c.timer.Stop() {
		c.left -= time.Since(c.since)
	}
}

func (c *compute) resume() {
	if c.expired.Load() {
		return
	}
	c.since = time.Now()
	c.timer.Reset(max(c.left, time.Millisecond))
}

func (c *compute) end() { c.timer.Stop() }

func (c *compute) over() bool { return c.expired.Load() }
