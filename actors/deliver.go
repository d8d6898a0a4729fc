package actors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
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
		// Each has its own place in its own line.
		own := &actorv1.Frame{Topic: f.Topic, Payload: f.Payload, Qos: f.Qos, Retain: f.Retain, Will: f.Will}
		e.deliver(id, own, all.one)
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
	f.Link = e.backlog.link
	l := &late{id: id, frame: f, done: done, seq: e.backlog.seq.Add(1)}
	if !e.backlog.behind(l) {
		e.offer(l)
	}
}

// offer brings a frame to its twin. Where it finds no room, or nobody who has the twin now, it waits.
func (e *Engine) offer(l *late) {
	env := &cluster.Envelope{ID: e.backlog.callID(), Target: cluster.Target{Kind: "twin", ID: l.id}, Message: l.frame}
	e.cluster.Call(env, func(r cluster.Reply) {
		if r.Err != nil && l.mayWait(r.Err) {
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
	// backlogFrames bounds the frames that wait for twins without room; beyond, they are refused. lineFrames and lineBytes
	// bound those of one twin.
	backlogFrames = 65_536
	lineFrames    = 4096
	lineBytes     = 8 << 20
	// backlogWait is how long a frame waits at most.
	backlogWait = 30 * time.Second
	// lineWindow is how many frames of a line are on offer at a time.
	lineWindow = 32
	// maxUnknown is how often a frame is offered again of which nobody knows whether it was taken.
	maxUnknown = 2
)

// backlog keeps frames whose twin had no room, or no owner for the moment, in their order. The broker bounds what one
// client may have waiting, and reads no more from it.
//
// The first of a twin's line is offered again, and with it some of those behind it. A twin that has no room for one takes
// none that was sent after it (gates), so that what comes back is put into the line where it belongs.
type backlog struct {
	e     *Engine
	link  string // names this life of this node to the twins
	id    uint64 // of this life, for the ids of calls
	seq   atomic.Uint64
	calls atomic.Uint64
	count atomic.Int32

	mu     sync.Mutex
	byTwin map[string]*line
}

// line is what waits for one twin, by the order in which it came.
type line struct {
	frames []*late
	bytes  int
	flying int  // on offer
	back   bool // one came back since the last look of the ticker
}

type late struct {
	id      string
	frame   *actorv1.Frame
	done    func(error)
	seq     uint64
	since   time.Time
	queued  bool
	unknown uint8
}

func newBacklog(e *Engine) *backlog {
	b := &backlog{e: e, id: rand.Uint64(), byTwin: map[string]*line{}}
	b.link = e.o.Node + "." + strconv.FormatUint(b.id, 36)
	return b
}

// callID makes the id of a frame's call.
func (b *backlog) callID() (id [16]byte) {
	binary.LittleEndian.PutUint64(id[:8], b.id)
	binary.LittleEndian.PutUint64(id[8:], b.calls.Add(1))
	return id
}

func (l *late) size() int { return len(l.frame.Topic) + len(l.frame.Payload) }

// mayWait says whether a frame that was not taken may be taken later, so that it stays here. QoS 0 waits for room only.
func (l *late) mayWait(err error) bool {
	if errors.Is(err, mqtt.ErrRefused) {
		return false
	}
	if errors.Is(err, cluster.ErrOverloaded) {
		return true
	}
	if l.frame.Qos == 0 {
		return false
	}
	if errors.Is(err, cluster.ErrUnknown) {
		l.unknown++
		return l.unknown <= maxUnknown
	}
	return errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrNotOwner)
}

// behind queues a frame behind others of its twin that wait, and reports whether there are any.
func (b *backlog) behind(l *late) bool {
	if b.count.Load() == 0 {
		return false
	}
	b.mu.Lock()
	q := b.byTwin[l.id]
	if q == nil || len(q.frames) == 0 {
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

// add puts a frame into its place. The caller has the lock.
func (b *backlog) add(q *line, l *late) bool {
	if !l.queued {
		if int(b.count.Load()) >= backlogFrames || len(q.frames) >= lineFrames || q.bytes+l.size() > lineBytes {
			return false
		}
		l.queued, l.since = true, time.Now()
	}
	b.count.Add(1)
	b.e.stats.drop(dropLater)
	q.bytes += l.size()
	i := len(q.frames)
	for i > 0 && q.frames[i-1].seq > l.seq {
		i--
	}
	q.frames = slices.Insert(q.frames, i, l)
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
	if q == nil {
		q = &line{}
		b.byTwin[l.id] = q
	}
	if l.queued {
		q.flying--
	}
	q.back = true
	fits := b.add(q, l)
	b.tidy(l.id, q)
	b.mu.Unlock()
	if !fits {
		b.refuse(l)
	}
}

// tidy forgets a line where nothing waits. The caller has the lock.
func (b *backlog) tidy(id string, q *line) {
	if len(q.frames) == 0 && q.flying == 0 {
		delete(b.byTwin, id)
	}
}

// through: a frame of a line was taken, or refused for good. The next ones follow at once.
func (b *backlog) through(l *late) {
	b.mu.Lock()
	var offers []*late
	if q := b.byTwin[l.id]; q != nil {
		q.flying--
		if !q.back {
			offers = b.next(q, false)
		}
		b.tidy(l.id, q)
	}
	b.mu.Unlock()
	for _, l := range offers {
		b.e.offer(l)
	}
}

// next takes what may be offered out of a line. first: nothing that came before the first of them waits anywhere. The
// caller has the lock.
func (b *backlog) next(q *line, first bool) []*late {
	n := min(len(q.frames), lineWindow-q.flying)
	if n <= 0 {
		return nil
	}
	offers := slices.Clone(q.frames[:n])
	clear(q.frames[:n])
	q.frames = q.frames[n:]
	q.flying += n
	b.count.Add(-int32(n))
	for i, l := range offers {
		q.bytes -= l.size()
		// What was sent before may still be read somewhere.
		f := l.frame
		l.frame = &actorv1.Frame{Topic: f.Topic, Payload: f.Payload, Qos: f.Qos, Retain: f.Retain, Will: f.Will, Link: f.Link,
			First: first && i == 0}
	}
	return offers
}

// retry offers what waits again, and refuses what waited for too long. The ticker calls it.
func (b *backlog) retry() {
	if b.count.Load() == 0 {
		return
	}
	var offers, refused []*late
	b.mu.Lock()
	for id, q := range b.byTwin {
		q.back = false
		for len(q.frames) > 0 && time.Since(q.frames[0].since) > backlogWait {
			refused = append(refused, q.frames[0])
			q.bytes -= q.frames[0].size()
			q.frames = q.frames[1:]
			b.count.Add(-1)
		}
		offers = append(offers, b.next(q, true)...)
		b.tidy(id, q)
	}
	b.mu.Unlock()
	for _, l := range refused {
		b.refuse(l)
	}
	for _, l := range offers {
		b.e.offer(l)
	}
}
