package inbound

import (
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// keepProgress is how long it is known what a twin that has gone has handled: until its next node has asked.
const keepProgress = time.Minute

// progress is how far a connection's frames have come at this node. It outlives the twin's end of the connection: what one has
// taken and not handled, the next one is told again, and what was handled is not.
type progress struct {
	node string
	link uint64

	mu      sync.Mutex
	end     *end // the twin's newest
	next    uint64
	handled uint64
	ahead   map[uint64]bool // handled before others that came earlier
	left    time.Time       // when it was seen first that the twin is gone
}

// finished is the progress of a connection that nobody is interested in any more.
func finished(m *actorv1.Link) *progress {
	end := m.Sequence + uint64(len(m.Frames))
	return &progress{next: end, handled: end - 1}
}

// progressOf gives the progress of the connection that a word is of, for a twin's end of it.
func (h *Hub) progressOf(e *end, m *actorv1.Link) *progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.progress[m.Twin]
	if !p.of(m) {
		first := m.Unhandled
		if first == 0 || first > m.Sequence { // of a node that does not keep frames
			first = m.Sequence
		}
		p = &progress{node: m.Node, link: m.Link, end: e, next: first, handled: first - 1, ahead: map[uint64]bool{}}
		h.progress[m.Twin] = p
		return p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != e {
		p.end, p.next, p.left = e, p.handled+1, time.Time{}
	}
	return p
}

// of says whether it is that of a word's connection.
func (p *progress) of(m *actorv1.Link) bool { return p != nil && p.node == m.Node && p.link == m.Link }

func (p *progress) ownEnd() *end {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// past says that the twin went so long ago that nobody asks any more.
func (p *progress) past() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.end.gone:
	default:
		return false
	}
	if p.left.IsZero() {
		p.left = time.Now()
	}
	return time.Since(p.left) > keepProgress
}

func (p *progress) taken() *actorv1.LinkTaken {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &actorv1.LinkTaken{Next: p.next, Handled: p.handled}
}

// wants says whether a frame is still to be told. One that was handled ahead of others counts as taken.
func (p *progress) wants(number uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number == p.next && (number <= p.handled || p.ahead[number]) {
		p.next++
	}
	return number >= p.next
}

func (p *progress) took(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = number + 1
}

// done notes that a frame was handled.
func (p *progress) done(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number <= p.handled {
		return
	}
	p.ahead[number] = true
	for p.ahead[p.handled+1] {
		p.handled++
		delete(p.ahead, p.handled)
	}
}

// tickets say which frames the sink hears next: each is told one, in the order in which the session was given them.
type tickets struct {
	mu  sync.Mutex
	all []ticket
}

type ticket struct {
	of     *progress
	number uint64
}

func (t *tickets) add(of *progress, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, ticket{of, number})
}

// takeBack undoes the last add.
func (t *tickets) takeBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = t.all[:len(t.all)-1]
}

func (t *tickets) next() (of *progress, number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.all[0]
	t.all = t.all[1:]
	return first.of, first.number
}

// counted passes on what comes to a twin's sink, and hears of each frame when it was handled.
type counted struct {
	drivers.Sink
	end *end
}

// Received implements drivers.Sink.
func (c *counted) Received(frame []byte) {
	of, number := c.end.tickets.next()
	if s, ok := c.Sink.(drivers.HandledSink); ok {
		s.ReceivedThen(frame, func() { of.done(number) })
		return
	}
	c.Sink.Received(frame)
	of.done(number)
}

// Failed implements drivers.FailureSink.
func (c *counted) Failed(err error) {
	if s, ok := c.Sink.(drivers.FailureSink); ok {
		s.Failed(err)
	}
}
