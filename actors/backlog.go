package actors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// backlogFrames bounds the frames that wait for twins without room; beyond, they are refused. lineFrames and lineBytes
	// bound those of one twin.
	backlogFrames = 65_536
	lineFrames    = 4096
	lineBytes     = 8 << 20
	// backlogWait is how long a frame waits at most.
	backlogWait = 30 * time.Second
	// lineWindow is how many frames of a line that had to wait are on offer at a time.
	lineWindow = 32
	// maxUnknown is how often a frame is offered again of which nobody knows whether it was taken.
	maxUnknown = 2
	// backlogParts are locked each on its own, and keep so many empty lines of twins that have frames now and then.
	backlogParts = 16
	emptyLines   = 1024
)

// backlog brings frames to their twins, each twin's in the order in which they came, wherever the twin lives and moves.
// Frames whose twin has no room, or no owner for the moment, wait here. The broker bounds what one client may have
// waiting, and reads no more from it.
//
// Several frames of a twin are on their way at a time. Each names the one before it as long as that one has no answer, and
// the twin takes it only after that one: so none overtakes another that comes back, be it for want of room or because
// the twin has moved. While this node takes nothing in (Options.Full) all wait.
type backlog struct {
	e     *Engine
	link  uint64 // this life of this node
	seed  maphash.Seed
	seq   atomic.Uint64
	calls atomic.Uint64
	count atomic.Int32 // frames that wait
	parts [backlogParts]backlogPart
}

// backlogPart holds the lines of some twins.
type backlogPart struct {
	sync.Mutex
	lines map[string]*line
}

// line holds the frames of one twin that have no answer yet, in their order.
type line struct {
	frames  []*late
	waiting int
	bytes   int  // of those that wait
	back    bool // one came back since the last look of the ticker
}

type late struct {
	id      string
	part    *backlogPart
	line    *line
	frame   *actorv1.Frame
	env     cluster.Envelope // of the frame on offer
	done    taker
	since   time.Time // when it began to wait
	waits   bool
	waited  bool
	unknown uint8
}

// taker hears once what became of a frame: what the twin said, or an error where it did not take the frame.
type taker interface {
	taken(r *actorv1.Taken, err error)
}

// takerFunc is a function as a taker.
type takerFunc func(*actorv1.Taken, error)

func (f takerFunc) taken(r *actorv1.Taken, err error) { f(r, err) }

// lines are used again: most frames are alone in theirs, and not every twin's line is kept.
var lines = sync.Pool{New: func() any { return &line{} }}

func newBacklog(e *Engine) *backlog {
	b := &backlog{e: e, link: rand.Uint64() | 1, seed: maphash.MakeSeed()}
	for i := range b.parts {
		b.parts[i].lines = map[string]*line{}
	}
	return b
}

// part has the lines among which a twin's is.
func (b *backlog) part(id string) *backlogPart {
	return &b.parts[maphash.String(b.seed, id)%backlogParts]
}

func (l *late) size() int { return len(l.frame.Topic) + len(l.frame.Payload) }

// deliver brings a frame to a twin; it is the backlog's from now on. done is called once.
func (b *backlog) deliver(id string, f *actorv1.Frame, done func(*actorv1.Taken, error)) {
	b.bring(&late{id: id, frame: f, done: takerFunc(done)})
}

// bring is deliver of what its sender has put together.
func (b *backlog) bring(l *late) {
	f, p := l.frame, b.part(l.id)
	p.Lock()
	q := p.lines[l.id]
	if q == nil {
		q = lines.Get().(*line)
		p.lines[l.id] = q
	}
	l.part, l.line = p, q
	f.Link, f.Sequence = b.link, b.seq.Add(1)
	if q.waiting > 0 || b.e.o.Full() != nil {
		fits := b.wait(q, l)
		if fits {
			q.frames = append(q.frames, l)
		} else if len(q.frames) == 0 {
			p.leave(l)
		}
		p.Unlock()
		if !fits {
			b.refuse(l)
		}
		return
	}
	if n := len(q.frames); n > 0 {
		f.Previous = q.frames[n-1].frame.Sequence
	}
	q.frames = append(q.frames, l)
	p.Unlock()
	b.offer(l)
}

// again is a frame as it came in, to be sent.
func again(f *actorv1.Frame) *actorv1.Frame {
	return &actorv1.Frame{Topic: f.Topic, Payload: f.Payload, Qos: f.Qos, Retain: f.Retain, Will: f.Will,
		Door: f.Door, Time: f.Time, Historical: f.Historical, Id: f.Id, Alias: f.Alias}
}

// offer brings a frame to its twin.
func (b *backlog) offer(l *late) {
	env := &l.env
	if env.Message != nil {
		env = &cluster.Envelope{} // what was sent before may still be read somewhere
	}
	env.Target, env.Message = cluster.Target{Kind: "twin", ID: l.id}, l.frame
	binary.LittleEndian.PutUint64(env.ID[:8], b.link)
	binary.LittleEndian.PutUint64(env.ID[8:], b.calls.Add(1))
	b.e.cluster.Call(env, func(r cluster.Reply) {
		if r.Err != nil && (l.mayWait(r.Err) || b.e.ahead(l.id, r.Err)) {
			b.again(l)
		} else {
			b.answered(l, r.Message, refusalOf(r.Err))
		}
	})
}

// mayWait says whether a frame that was not taken may be taken later, so that it stays here. One of QoS 0 that may have been taken does not.
func (l *late) mayWait(err error) bool {
	switch {
	case errors.Is(err, mqtt.ErrRefused):
		return false
	case errors.Is(err, cluster.ErrOverloaded):
		return true
	case errors.Is(err, cluster.ErrUnknown):
		l.unknown++
		return l.frame.Qos > 0 && l.unknown <= maxUnknown
	}
	return errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, cluster.ErrNotOwner)
}

// wait has a frame wait, unless too many do. The caller has the lock.
func (b *backlog) wait(q *line, l *late) bool {
	if !l.waited {
		if int(b.count.Load()) >= backlogFrames || q.waiting >= lineFrames || q.bytes+l.size() > lineBytes {
			return false
		}
		l.waited, l.since = true, time.Now()
	}
	l.waits = true
	q.waiting++
	q.bytes += l.size()
	b.count.Add(1)
	b.e.rouse()
	b.e.stats.drop(dropLater)
	return true
}

// unwait takes that back. The caller has the lock.
func (b *backlog) unwait(q *line, l *late) {
	l.waits = false
	q.waiting--
	q.bytes -= l.size()
	b.count.Add(-1)
}

func (b *backlog) refuse(l *late) {
	b.e.stats.drop(dropBacklog)
	err := fmt.Errorf("twin %s: %w", l.id, cluster.ErrOverloaded)
	if full := b.e.o.Full(); full != nil {
		err = fmt.Errorf("%w: %w", full, err)
	}
	l.done.taken(nil, err)
}

// again takes a frame back that was not taken.
func (b *backlog) again(l *late) {
	p, q := l.part, l.line
	p.Lock()
	q.back = true
	fits := b.wait(q, l)
	if !fits {
		p.remove(l)
	}
	p.Unlock()
	if !fits {
		b.refuse(l)
	}
}

// answered: a frame was taken, or refused for good. Those that wait behind it follow at once.
func (b *backlog) answered(l *late, reply proto.Message, err error) {
	p, q := l.part, l.line
	p.Lock()
	var offers []*late
	if p.remove(l) && q.waiting > 0 {
		atMost := lineWindow
		if q.back {
			atMost = 1 // for want of room: one more, now that one is answered
		}
		offers = b.next(q, atMost)
	}
	p.Unlock()
	taken, _ := reply.(*actorv1.Taken)
	l.done.taken(taken, err)
	for _, l := range offers {
		b.offer(l)
	}
}

// remove takes a frame out of its line, and says whether there are others. The caller has the lock.
func (p *backlogPart) remove(l *late) bool {
	q := l.line
	switch n := len(q.frames); {
	case n == 1:
		q.frames[0] = nil
		q.frames, q.back = q.frames[:0], false
		if cap(q.frames) > lineWindow {
			q.frames = nil
		}
		p.leave(l)
		return false
	case q.frames[0] == l:
		q.frames[0] = nil
		q.frames = q.frames[1:]
	default:
		i := slices.Index(q.frames, l)
		q.frames = slices.Delete(q.frames, i, i+1)
	}
	return true
}

// leave forgets a frame's line, which is empty, unless it is among the few that are kept. The caller has the lock.
func (p *backlogPart) leave(l *late) {
	if len(p.lines) > emptyLines {
		delete(p.lines, l.id)
		lines.Put(l.line)
	}
}

// next takes frames that may be offered: the first of those that wait. The caller has the lock.
func (b *backlog) next(q *line, atMost int) (offers []*late) {
	if b.e.o.Full() != nil {
		return nil
	}
	window := min(atMost, lineWindow-(len(q.frames)-q.waiting))
	for i, l := range q.frames {
		if q.waiting == 0 || window <= 0 {
			break
		}
		if !l.waits {
			continue
		}
		b.unwait(q, l)
		// What was sent before may still be read somewhere.
		f := l.frame
		l.frame = again(f)
		l.frame.Link, l.frame.Sequence, l.frame.Again = f.Link, f.Sequence, l.unknown > 0
		if i > 0 {
			l.frame.Previous = q.frames[i-1].frame.Sequence
		}
		offers = append(offers, l)
		window--
	}
	return offers
}

// retry offers what waits again, and refuses what waited for too long. The ticker calls it.
func (b *backlog) retry() {
	if b.count.Load() == 0 {
		return
	}
	var offers, refused []*late
	for i := range b.parts {
		p := &b.parts[i]
		p.Lock()
		for _, q := range p.lines {
			q.back = false
			if q.waiting == 0 {
				continue
			}
			more := true
			for more && q.frames[0].waits && time.Since(q.frames[0].since) > backlogWait {
				l := q.frames[0]
				b.unwait(q, l)
				refused = append(refused, l)
				more = p.remove(l)
			}
			if more {
				offers = append(offers, b.next(q, lineWindow)...)
			}
		}
		p.Unlock()
	}
	for _, l := range refused {
		b.refuse(l)
	}
	for _, l := range offers {
		b.offer(l)
	}
}
