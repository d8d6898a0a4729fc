package topic

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// request is a call on its way to a topic, or something of its own (fn).
type request struct {
	env   *cluster.Envelope
	done  func(cluster.Reply)
	bytes int
	fn    func()
}

func (r *request) answer(m proto.Message) { r.done(cluster.Reply{Message: m}) }

func (r *request) fail(err error) { r.done(cluster.Reply{Err: err}) }

// topic is the actor of one topic. Its goroutine is the only one that touches what is not said to be shared.
type topic struct {
	h    *Host
	id   string
	own  *cluster.Ownership
	life uint64

	// Shared: what comes in. queued counts the calls, and bytes what they carry, until they are handled.
	mu     sync.Mutex
	inbox  []*request
	queued atomic.Int64
	bytes  atomic.Int64
	wake   chan struct{}
	ended  chan struct{}
	// leaving and lost are written under the host's mutex, before wake.
	leaving, lost bool
	leavingNow    atomic.Int32 // 1: leaving, 2: lost

	conf     *pb.Topic // nil: there is no such topic
	confAt   time.Time
	revision uint64
	tail     *actorv1.TopicRecord
	value    []byte // of tail as it is stored; nil: not yet
	oldest   int64  // time of the oldest message; 0: not known
	recent   recent
	known    known
	channels map[string]*channel
	pending  []*publication
	held     int64 // bytes of pending
	after    []func(error)
	touched  bool // something but a channel or a message has to be written
	removed  []string
	cut      uint64 // messages before it are to be removed
	flight   *flight
	retryAt  time.Time
	tails    []*tailing
	used     time.Time
	since    time.Time // it is leaving
	// dead: the actor has no effect any more, and why.
	dead error
}

func newTopic(h *Host, id string, own *cluster.Ownership) *topic {
	return &topic{h: h, id: id, own: own, life: newLife(), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		channels: map[string]*channel{}, used: time.Now()}
}

// take puts a request into the inbox.
func (t *topic) take(r *request) error {
	if t.queued.Load() >= maxQueue || t.bytes.Load()+int64(r.bytes) > maxQueueBytes && t.bytes.Load() > 0 {
		return fmt.Errorf("%d calls wait: %w", t.queued.Load(), cluster.ErrOverloaded)
	}
	t.queued.Add(1)
	t.bytes.Add(int64(r.bytes))
	t.put(r)
	return nil
}

// post has fn run in the topic's turn.
func (t *topic) post(fn func()) { t.put(&request{fn: fn}) }

func (t *topic) put(r *request) {
	t.mu.Lock()
	t.inbox = append(t.inbox, r)
	t.mu.Unlock()
	t.signal()
}

func (t *topic) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// end has the topic stop; lost: at once, without effect. The caller has the host's lock.
func (t *topic) end(lost bool) {
	t.leaving, t.lost = true, t.lost || lost
	if t.lost {
		t.leavingNow.Store(2)
	} else {
		t.leavingNow.CompareAndSwap(0, 1)
	}
	t.signal()
}

func (t *topic) drain() []*request {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.inbox
	t.inbox = nil
	return all
}

func (t *topic) run() {
	defer t.h.wg.Done()
	defer close(t.ended)
	if err := t.load(); err != nil {
		t.die(fmt.Errorf("read topic %s: %w", t.id, err))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for _, r := range t.drain() {
			t.handle(r)
		}
		next, over := t.step(time.Now())
		if over {
			break
		}
		timer.Reset(next)
		select {
		case <-t.wake:
		case <-timer.C:
		}
	}
	// Nothing comes any more: what came before the host forgot the topic is sent away.
	why := t.dead
	if why == nil {
		why = t.notOwner()
	}
	t.refuseAll(why, why)
	for _, r := range t.drain() {
		if r.fn == nil {
			t.forget(r)
			r.fail(why)
		}
	}
}

func (t *topic) notOwner() error { return fmt.Errorf("topic %s: %w", t.id, cluster.ErrNotOwner) }

// forget takes a call out of the bounds.
func (t *topic) forget(r *request) {
	t.queued.Add(-1)
	t.bytes.Add(-int64(r.bytes))
}

// die ends the actor's effect.
func (t *topic) die(err error) {
	if t.dead == nil {
		t.dead = err
		t.h.o.Logger.Warn("topic begins anew", "topic", t.id, "err", err)
	}
}

// handle runs one request.
func (t *topic) handle(r *request) {
	if r.fn != nil {
		r.fn()
		return
	}
	t.forget(r)
	if t.dead != nil {
		r.fail(t.dead)
		return
	}
	if t.leavingNow.Load() != 0 {
		r.fail(t.notOwner())
		return
	}
	t.used = time.Now()
	drop, _ := r.env.Message.(*actorv1.TopicDrop)
	if drop.GetRevision() > t.revision {
		t.confAt = time.Time{}
	}
	if err := t.refresh(); err != nil {
		r.fail(err)
		return
	}
	if r.env.Message == nil {
		return
	}
	if t.conf == nil {
		r.fail(fmt.Errorf("topic %s: %w", t.id, ErrNotFound))
		return
	}
	if t.conf.Deleting && drop == nil {
		r.fail(fmt.Errorf("topic %s: %w", t.id, ErrDeleting))
		return
	}
	if err := t.dispatch(r); err != nil {
		r.fail(fmt.Errorf("topic %s: %w", t.id, err))
	}
}

// dispatch runs a call; where it returns no error it has answered, or will.
func (t *topic) dispatch(r *request) error {
	switch m := r.env.Message.(type) {
	case *pb.PublishRequest:
		return t.publish(r, m)
	case *actorv1.TopicRead:
		return t.read(r, m)
	case *actorv1.TopicLeave:
		return t.leave(r, m)
	case *pb.AckRequest:
		return t.ack(r, m)
	case *actorv1.TopicTail:
		return t.follow(r, m)
	case *actorv1.TopicQuery:
		r.answer(t.state())
	case *actorv1.TopicChannelsQuery:
		r.answer(t.listChannels())
	case *pb.PutChannelRequest:
		return t.putChannel(r, m)
	case *pb.DeleteChannelRequest:
		return t.deleteChannel(r, m)
	case *pb.SeekChannelRequest:
		return t.seek(r, m)
	case *actorv1.TopicCut:
		t.cut = max(t.cut, min(m.Before, t.tail.Next))
		t.whenSaved(r, &actorv1.Taken{})
	case *actorv1.TopicDrop:
		if !t.conf.Deleting {
			return fmt.Errorf("its record of revision %d is not here yet: %w", m.Revision, cluster.ErrOverloaded)
		}
		t.whenSaved(r, &actorv1.Taken{})
	default:
		return fmt.Errorf("a %T: %w", m, errors.ErrUnsupported)
	}
	return nil
}

// whenSaved answers a call when all that the topic knows now is committed.
func (t *topic) whenSaved(r *request, m proto.Message) {
	t.touched = true
	t.after = append(t.after, func(err error) {
		if err != nil {
			r.fail(err)
			return
		}
		r.answer(m)
	})
}

// step does what time and room allow. It says when it wants to be called again, and whether the actor is over.
func (t *topic) step(now time.Time) (next time.Duration, over bool) {
	switch {
	case t.leavingNow.Load() == 2:
		if t.dead == nil {
			t.dead = t.notOwner()
		}
		fallthrough
	case t.dead != nil:
		unknown := fmt.Errorf("topic %s: %w: %w", t.id, cluster.ErrUnknown, t.dead)
		t.refuseAll(unknown, t.dead)
		t.h.gone(t, false)
		return 0, true
	case t.leavingNow.Load() == 1:
		return t.stepLeaving(now)
	}
	wanted := now.Add(time.Second)
	for _, c := range t.channels {
		wanted = c.tick(now, wanted)
	}
	for _, x := range t.tails {
		wanted = earlier(wanted, x.until)
	}
	t.serve(now)
	t.save(now)
	switch {
	case t.flight == nil && (len(t.pending) > 0 || t.dirty()):
		return 5 * time.Millisecond, false // the store had no room
	case t.unused(now) && t.h.gone(t, true):
		return 0, true
	}
	return max(time.Millisecond, wanted.Sub(now)), false
}

// unused says whether the topic may leave memory.
func (t *topic) unused(now time.Time) bool {
	if t.flight != nil || len(t.pending) > 0 || len(t.tails) > 0 || t.conf != nil && now.Sub(t.used) < idleAfter {
		return false
	}
	for _, c := range t.channels {
		if len(c.readers) > 0 || len(c.dying) > 0 || len(c.later) > 0 {
			return false
		}
	}
	return true
}

// stepLeaving commits what was said, sends what waits to the next owner, and ends.
func (t *topic) stepLeaving(now time.Time) (time.Duration, bool) {
	if t.since.IsZero() {
		t.since = now
		for _, p := range t.pending {
			p.r.fail(t.notOwner())
		}
		t.pending, t.held = nil, 0
		t.refusePolls(t.notOwner())
	}
	t.save(now)
	if (t.flight != nil || t.dirty()) && now.Sub(t.since) < 7*time.Second {
		return 5 * time.Millisecond, false
	}
	unknown := fmt.Errorf("topic %s: %w", t.id, cluster.ErrUnknown)
	t.refuseAll(unknown, t.notOwner())
	t.h.gone(t, false)
	return 0, true
}

// refuseAll answers everything that waits: ran is for what may have been committed, not for what was not.
func (t *topic) refuseAll(ran, not error) {
	if f := t.flight; f != nil {
		t.flight = nil
		for _, p := range f.publications {
			p.r.fail(ran)
		}
		for _, done := range f.after {
			done(ran)
		}
	}
	for _, p := range t.pending {
		p.r.fail(not)
	}
	for _, done := range t.after {
		done(not)
	}
	t.pending, t.after = nil, nil
	t.refusePolls(not)
}

func (t *topic) refusePolls(why error) {
	for _, x := range t.tails {
		x.r.fail(why)
	}
	t.tails = nil
	for _, c := range t.channels {
		for _, r := range c.readers {
			if r.poll != nil {
				r.poll.fail(why)
				r.poll = nil
			}
		}
		c.queue = nil
	}
}

func (t *topic) state() *pb.TopicState {
	return &pb.TopicState{FirstOffset: t.tail.First, NextOffset: t.tail.Next, Messages: t.tail.Next - t.tail.First,
		Bytes: t.tail.Bytes, Trimmed: t.tail.Trimmed, Duplicates: t.tail.Duplicates, Node: t.h.o.Node, Channels: uint32(len(t.channels))}
}
