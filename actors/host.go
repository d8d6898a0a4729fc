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
	e     *Engine
	en    *entry
	own   *cluster.Ownership
	spec  *spec
	link  *link
	cfg   *config
	wrote atomic.Bool
	lines int
	ctx   callContext
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
func (h *host) Send(_ context.Context, frame []byte) error {
	if h.link == nil {
		return errDisconnected
	}
	ctx, unblock := h.block()
	defer unblock()
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
func (h *host) Request(_ context.Context, frame []byte, timeout time.Duration) ([]byte, error) {
	if h.link == nil {
		return nil, errDisconnected
	}
	ctx, unblock := h.block()
	defer unblock()
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

// block gives the call's share of the processor away while it waits for something outside. The context is for that.
func (h *host) block() (context.Context, func()) {
	h.ctx.pause()
	h.e.pool.Block(&h.spec.key)
	ctx, cancel := context.WithDeadline(h.e.calls, h.ctx.deadline)
	h.ctx.op.Store(&cancel)
	if h.ctx.cancelled.Load() {
		cancel()
	}
	return ctx, func() {
		cancel()
		h.e.pool.Unblock(&h.spec.key)
		h.ctx.resume()
	}
}

// callContext is the context of one call. It costs no timer and no goroutine: the sandbox looks at it every few
// milliseconds. It ends with its deadline, when it is cancelled, and when the call has computed for too long; time spent
// in block does not count there.
type callContext struct {
	parent    context.Context
	deadline  time.Time
	left      atomic.Int64 // nanoseconds that may be computed yet, as of since
	since     atomic.Int64 // nanoseconds after base; 0: not computing
	base      time.Time
	cancelled atomic.Bool
	expired   atomic.Bool
	op        atomic.Pointer[context.CancelFunc]
}

func (c *callContext) begin(parent context.Context, limit, computing time.Duration) {
	c.parent, c.base = parent, time.Now()
	c.deadline = c.base.Add(limit)
	c.left.Store(int64(computing))
}

func (c *callContext) pause() {
	c.left.Add(-(int64(time.Since(c.base)) - c.since.Swap(0)))
}

func (c *callContext) resume() { c.since.Store(max(1, int64(time.Since(c.base)))) }

// over says whether the call was ended because it computed for too long.
func (c *callContext) over() bool { return c.expired.Load() }

func (c *callContext) cancel() {
	c.cancelled.Store(true)
	if op := c.op.Load(); op != nil {
		(*op)()
	}
}

// Deadline of the call.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done is closed when the node stops; what else ends the context shows in Err.
func (c *callContext) Done() <-chan struct{} { return c.parent.Done() }

// Value has none.
func (c *callContext) Value(any) any { return nil }

// Err says whether the call has to end.
func (c *callContext) Err() error {
	if err := c.parent.Err(); err != nil {
		return err
	}
	if c.cancelled.Load() || c.expired.Load() {
		return context.Canceled
	}
	now := time.Since(c.base)
	if s := c.since.Load(); s != 0 && int64(now)-s > c.left.Load() {
		c.expired.Store(true)
		return context.Canceled
	}
	if c.base.Add(now).After(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}
