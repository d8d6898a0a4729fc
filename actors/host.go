package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/actors/pool"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
)

var errDisconnected = fmt.Errorf("device: %w", drivers.ErrDisconnected)

// host is what a running call reaches. It belongs to one call, and is used from its goroutine.
type host struct {
	e  *Engine
	en *entry
	// own is nil in a run of a logic, which belongs to no slot.
	own  *cluster.Ownership
	spec *spec
	link *link
	cfg  *config
	// moved is where what is published is counted; nil: the connection counts.
	moved *moved
	// chain are the twins whose calls led to this one, and this one.
	chain []string
	wrote atomic.Bool
	lines int
	ctx   callContext
	// ticket is the call's in the pool.
	ticket pool.Ticket
}

var _ drivers.Host = (*host)(nil)

// maxLines bounds what one call may log.
const maxLines = 64

// allowed says whether the device may be written to, right now.
func (h *host) allowed() error {
	if h.own != nil && h.e.owned[h.en.slot].Load() != h.own {
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
		ctx, cancel = h.e.withDeadline(ctx, h.e.now().Add(timeout))
		defer cancel()
	}
	answer, stop := h.link.await()
	defer stop()
	if err := h.send(ctx, frame); err != nil {
		return nil, err
	}
	defer h.link.park(answer)()
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
	if h.cfg.binding.Dials(h.cfg.uri) { // another's broker; never this node's in its place
		if h.link == nil {
			return errDisconnected
		}
		to, ok := h.link.conn.(publisher)
		if !ok {
			return fmt.Errorf("publish to %q: the twin's connection is to no broker: %w", topic, drivers.ErrDenied)
		}
		return h.publishOut(to, topic, payload, qos, retain)
	}
	if other := h.e.othersTopic(ProjectOf(h.en.id), topic); other != "" {
		return fmt.Errorf("publish to %q: it is a topic of project %s: %w", topic, other, drivers.ErrDenied)
	}
	p := h.e.publish.Load()
	if p == nil {
		return errDisconnected
	}
	if err := h.allowed(); err != nil {
		return err
	}
	h.wrote.Store(true)
	h.moved.sent(len(topic) + len(payload))
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
	text = clip(text, 1024)
	h.en.tokens.Add(1)
	h.en.send(&logged{level: level, text: text, time: h.e.stamp()})
}

// block gives the call's share of the processor away while it waits for something outside. The context is for that.
func (h *host) block() (context.Context, func()) {
	h.e.pool.Block(&h.spec.key, &h.ticket)
	ctx, cancel := h.e.withDeadline(h.e.calls, h.ctx.deadline)
	h.ctx.op.Store(&cancel)
	if h.ctx.cancelled.Load() {
		cancel()
	}
	return ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			h.ctx.late.Store(true)
		}
		cancel()
		h.e.pool.Unblock(&h.spec.key)
	}
}

const (
	// maxStep is how much one look at a running call counts at most. The sandbox looks after half a millisecond of computing, by what it has seen so far: where the
	// next look comes much later, the machine was busy elsewhere, and the driver did not have the time either.
	maxStep = time.Millisecond
	// maxWhole is how many times its budget a call may take in all while it computes, however busy the machine is: a slice of dear instructions
	// after cheap ones takes longer than it counts.
	maxWhole = 12
)

// callContext is the context of one call. It costs no timer and no goroutine: the sandbox looks at it every few
// milliseconds. What the call waits for ends at its deadline; what the guest computes is bounded by a budget of its own,
// which is counted while Run holds.
type callContext struct {
	e        *Engine
	parent   context.Context
	base     time.Time
	deadline time.Time
	budget   time.Duration

	mu        sync.Mutex
	computing bool
	seen      time.Duration // after base: up to when computing is counted
	spent     time.Duration
	whole     time.Duration // between looks, whatever the guest had of it

	cancelled atomic.Bool
	expired   atomic.Bool // it computed for too long
	late      atomic.Bool // it waited for something outside until its deadline
	op        atomic.Pointer[context.CancelFunc]
}

var _ drivers.Clock = (*callContext)(nil)

func (c *callContext) begin(e *Engine, limit time.Duration) {
	c.beginAt(e, time.Now(), e.now().Add(limit))
}

func (c *callContext) beginAt(e *Engine, now, deadline time.Time) {
	c.e, c.parent, c.base, c.deadline, c.budget = e, e.calls, now, deadline, e.o.ComputeTimeout
}

// reset begins the time of another call in the same context: now by time.Now, until a deadline by the engine's clock.
func (c *callContext) reset(e *Engine, now, deadline time.Time) {
	c.mu.Lock()
	c.computing, c.seen, c.spent, c.whole = false, 0, 0, 0
	c.mu.Unlock()
	c.cancelled.Store(false)
	c.expired.Store(false)
	c.late.Store(false)
	c.beginAt(e, now, deadline)
}

// tooLong ends a call that computed for longer than it may. It counts as context.Canceled.
type tooLong time.Duration

func (d tooLong) Error() string {
	return fmt.Sprintf("endless loop: it computed longer than its %s", time.Duration(d))
}

func (tooLong) Is(target error) bool { return target == context.Canceled }

// Run has the guest's time counted from now on.
func (c *callContext) Run() {
	c.mu.Lock()
	c.computing, c.seen = true, time.Since(c.base)
	c.mu.Unlock()
}

// Pause ends Run.
func (c *callContext) Pause() {
	c.mu.Lock()
	c.count()
	c.computing = false
	c.mu.Unlock()
}

func (c *callContext) count() {
	if now := time.Since(c.base); c.computing && now > c.seen {
		c.spent += min(now-c.seen, maxStep)
		c.whole += now - c.seen
		c.seen = now
	}
}

// left is what may be computed yet, and whether the guest computes.
func (c *callContext) left() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count()
	return min(c.budget-c.spent, maxWhole*c.budget-c.whole), c.computing
}

// over says whether the call was ended because it computed for too long.
func (c *callContext) over() bool { return c.expired.Load() }

func (c *callContext) cancel() {
	c.cancelled.Store(true)
	if op := c.op.Load(); op != nil {
		(*op)()
	}
}

// Deadline of what the call waits for or, while it computes, the earliest end of its budget.
func (c *callContext) Deadline() (time.Time, bool) {
	if left, computing := c.left(); computing {
		return time.Now().Add(max(left, 0)), true
	}
	// A deadline by another clock would not be understood.
	return c.deadline, c.e.o.Clock == nil
}

// Done is closed when the node stops; what else ends the context shows in Err.
func (c *callContext) Done() <-chan struct{} { return c.parent.Done() }

// Value has none.
func (c *callContext) Value(any) any { return nil }

// Err says whether the call has to end.
func (c *callContext) Err() error {
	if err := c.parent.Err(); err != nil {
		return err
	}
	switch {
	case c.expired.Load():
		return tooLong(c.budget)
	case c.cancelled.Load():
		return context.Canceled
	}
	if c.late.Load() {
		return context.DeadlineExceeded
	}
	left, computing := c.left()
	switch {
	case computing && left <= 0:
		c.expired.Store(true)
		return tooLong(c.budget)
	case !computing && c.e.now().After(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}
