package actors

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// Deliver hands one publish to the twins bound to its topic. done is called exactly once: without an error when every
// twin has handled it (QoS 0), or has it committed (QoS 1 and 2); with ErrNoTwin where nobody owns the topic, or with why a
// twin refused it. It never blocks; while a twin has too much waiting, done waits.
func (e *Engine) Deliver(m *mqtt.Message, done func(error)) {
	ids, err := e.topics.twins(m.Topic)
	if err != nil {
		done(err)
		return
	}
	if len(ids) == 0 {
		e.stats.drop(dropNoTwin)
		done(fmt.Errorf("topic %q: %w: %w", m.Topic, ErrNoTwin, mqtt.ErrUnowned))
		return
	}
	f := &actorv1.Frame{Topic: m.Topic, Payload: m.Payload, Qos: uint32(m.QoS), Retain: m.Retain, Will: m.Will}
	if len(ids) == 1 {
		e.deliver(ids[0], f, done)
		return
	}
	all := &gathering{done: done}
	all.left.Store(int32(len(ids)))
	for _, id := range ids {
		e.deliver(id, f, all.one)
	}
}

// gathering waits for several twins. Where one of them has not committed and may do so later, the message is not
// acknowledged, whatever the others say.
type gathering struct {
	left    atomic.Int32
	mu      sync.Mutex
	again   error // may work later
	refused error // final
	done    func(error)
}

func (g *gathering) one(err error) {
	if err != nil {
		var final *mqtt.Refusal
		g.mu.Lock()
		if errors.As(err, &final) {
			g.refused = err
		} else {
			g.again = err
		}
		g.mu.Unlock()
	}
	if g.left.Add(-1) > 0 {
		return
	}
	if g.again != nil {
		g.done(g.again)
		return
	}
	g.done(g.refused)
}

func (e *Engine) deliver(id string, f *actorv1.Frame, done func(error)) {
	l := &late{id: id, frame: f, done: done}
	if !e.backlog.behind(l) {
		e.offer(l)
	}
}

func (e *Engine) offer(l *late) {
	env := &cluster.Envelope{Target: cluster.Target{Kind: "twin", ID: l.id}, Message: l.frame}
	e.cluster.Call(env, func(r cluster.Reply) {
		if r.Err != nil && errors.Is(r.Err, cluster.ErrOverloaded) {
			e.backlog.again(l)
			return
		}
		if l.queued {
			e.backlog.through(l)
		}
		l.done(refusalOf(r.Err))
	})
}

// refusalOf tells the broker which refusals are for good: sending again would not help. After the others it has the
// client send again.
func refusalOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mqtt.ErrRefused):
		return err
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrStopped), errors.Is(err, ErrFault):
		return fmt.Errorf("%w: %w", err, mqtt.ErrRefused)
	}
	return err
}

// refusedFrame is the answer to a frame that the twin's driver did not take, and would not take the next time.
func refusedFrame(id, why string) error {
	return fmt.Errorf("twin %s: %s: %w", id, why, mqtt.ErrRefused)
}

const (
	// backlogFrames bounds the frames that wait for twins with full queues; beyond, they are refused.
	backlogFrames = 65_536
	// backlogWait is how long a frame waits at most.
	backlogWait = 30 * time.Second
)

// backlog keeps frames whose twin had no room, in their order, until it has. The broker bounds what one client may
// have waiting, and reads no more from it.
type backlog struct {
	e     *Engine
	count atomic.Int32

	mu     sync.Mutex
	byTwin map[string]*line
}

// line is what waits for one twin; its first frame is offered again and again.
type line struct {
	frames []*late
	busy   bool // the first one is on offer
}

type late struct {
	id     string
	frame  *actorv1.Frame
	done   func(error)
	since  time.Time
	queued bool
}

func newBacklog(e *Engine) *backlog { return &backlog{e: e, byTwin: map[string]*line{}} }

// behind queues a frame behind others of its twin that wait, and reports whether there are any.
func (b *backlog) behind(l *late) bool {
	if b.count.Load() == 0 {
		return false
	}
	b.mu.Lock()
	q := b.byTwin[l.id]
	if q == nil {
		b.mu.Unlock()
		return false
	}
	fits := b.add(q, l)
	b.mu.Unlock()
	if !fits {
		b.refuse(l)
	}
	return true
}

func (b *backlog) add(q *line, l *late) bool {
	if int(b.count.Load()) >= backlogFrames {
		return false
	}
	b.count.Add(1)
	l.queued, l.since = true, time.Now()
	q.frames = append(q.frames, l)
	return true
}

func (b *backlog) refuse(l *late) {
	b.e.stats.drop(dropBacklog)
	l.done(fmt.Errorf("twin %s: %w", l.id, cluster.ErrOverloaded))
}

// again takes a frame for which there was no room.
func (b *backlog) again(l *late) {
	b.mu.Lock()
	q := b.byTwin[l.id]
	if l.queued {
		q.busy = false
		b.mu.Unlock()
		return
	}
	if q == nil {
		q = &line{}
		b.byTwin[l.id] = q
	}
	fits := b.add(q, l)
	if len(q.frames) == 0 {
		delete(b.byTwin, l.id)
	}
	b.mu.Unlock()
	if !fits {
		b.refuse(l)
	}
}

// through takes the first frame of a line out, and offers the next.
func (b *backlog) through(l *late) {
	b.mu.Lock()
	q := b.byTwin[l.id]
	q.frames = q.frames[1:]
	b.count.Add(-1)
	var next *late
	if len(q.frames) == 0 {
		delete(b.byTwin, l.id)
	} else {
		next = q.frames[0]
	}
	b.mu.Unlock()
	if next != nil {
		b.e.offer(next)
	}
}

// retry offers what waits again, and refuses what waited for too long. The ticker calls it.
func (b *backlog) retry() {
	if b.count.Load() == 0 {
		return
	}
	var offers, refused []*late
	b.mu.Lock()
	for id, q := range b.byTwin {
		if q.busy {
			continue
		}
		for len(q.frames) > 0 && time.Since(q.frames[0].since) > backlogWait {
			refused = append(refused, q.frames[0])
			q.frames = q.frames[1:]
			b.count.Add(-1)
		}
		if len(q.frames) == 0 {
			delete(b.byTwin, id)
			continue
		}
		q.busy = true
		offers = append(offers, q.frames[0])
	}
	b.mu.Unlock()
	for _, l := range refused {
		b.refuse(l)
	}
	for _, l := range offers {
		b.e.offer(l)
	}
}
