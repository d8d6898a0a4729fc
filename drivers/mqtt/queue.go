package mqtt

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// queuePrefix is what the keys of a session's queue, and of the packet ids it has received, begin with.
func queuePrefix(id string, birth uint64) string { return fmt.Sprintf("%s\x00%016x\x00", id, birth) }

// queueKey gives the next key of a queue: this node's clock, which never stands still or goes back here.
func (b *Broker) queueKey(id string, birth uint64) string {
	for {
		last := b.lastKey.Load()
		now := max(time.Now().UnixNano(), last+1)
		if b.lastKey.CompareAndSwap(last, now) {
			return fmt.Sprintf("%s%016x-%s", queuePrefix(id, birth), now, b.self)
		}
	}
}

// queueTime reads when an entry was queued, in milliseconds since 1970.
func queueTime(key string) int64 {
	at := strings.LastIndexByte(key, 0) + 1
	if len(key) < at+16 {
		return 0
	}
	var ns int64
	if _, err := fmt.Sscanf(key[at:at+16], "%x", &ns); err != nil {
		return 0
	}
	return ns / int64(time.Millisecond)
}

// queued is a message that goes to a client's queue.
type queued struct {
	c     *client
	birth uint64
	o     *outgoing
}

const (
	// recountShare: a queue that stays full is counted anew now and then, which takes one part in so many of the time.
	recountShare = 10
	// recountAdded: where one part in so many of it came since the last count, at once.
	recountAdded = 8
)

// replayShare: retained messages fill one part in so many of a queue, and leave the rest to those that come meanwhile.
const replayShare = 2

// hasRoom counts a message into the client's queue, of which it may use one part in so many. What others added or the client took shows
// when the queue seems full here: then it is counted anew. So several nodes may go a little over.
func (b *Broker) hasRoom(c *client, birth uint64, size, part int) bool {
	c.depthMu.Lock()
	defer c.depthMu.Unlock()
	full := func() bool {
		return c.messages > 0 && (c.messages >= max(1, b.limits.Queued/part) || c.bytes+size > b.limits.QueuedBytes/part)
	}
	if now := time.Now(); c.counted.IsZero() || full() && (c.added*recountAdded >= c.messages || now.Sub(c.counted) > recountShare*c.counting) {
		c.messages, c.bytes, c.added, c.counted = 0, 0, 0, now
		defer func() { c.counting = time.Since(now) }()
		for rec, err := range b.store.Scan(TableQueue, queuePrefix(c.id, birth), "") {
			if err != nil {
				return false
			}
			c.messages++
			c.bytes += overhead + len(rec.Value)
		}
	}
	if full() {
		return false
	}
	c.messages++
	c.added++
	c.bytes += size
	return true
}

// enqueue gives the write for a message that goes to a client's queue.
func (b *Broker) enqueue(q *queued) (storage.Write, error) {
	q.o.key = b.queueKey(q.c.id, q.birth)
	value, err := proto.Marshal(q.o.record())
	return storage.Write{Table: TableQueue, Key: q.o.key, Value: value, Quiet: true}, err
}

// arrived hands what is committed to the client, wherever it is connected.
func (b *Broker) arrived(q *queued) {
	if s := q.c.here.Load(); s != nil && s.birth == q.birth {
		s.push(q.o)
		return
	}
	b.bring(q, q.c.place.Load())
}

// bring tells the client's node of a message in its queue.
func (b *Broker) bring(q *queued, p *place) {
	if p == nil || p.away || p.birth != q.birth || p.node == b.self {
		return
	}
	b.linkTo(p.node).add(&actorv1.MqttForward{Client: q.c.id, Birth: q.birth, Key: q.o.key, Message: q.o.record()})
}

// elsewhere: the client is not where this node believed. Its record, as new as the message, knows.
func (b *Broker) elsewhere(f *actorv1.MqttForward, not string) {
	r, revision, err := b.readSession(f.Client)
	if err != nil || r == nil || r.Away || r.Birth != f.Birth || r.Node == not {
		return
	}
	c := b.learn(f.Client, r, revision)
	q := &queued{c: c, birth: f.Birth, o: outgoingOf(f.Message, f.Key)}
	if s := c.here.Load(); s != nil && s.birth == f.Birth {
		s.push(q.o)
		return
	}
	b.bring(q, c.place.Load())
}

// push takes a message out of the client's own queue, of which it is the newest as far as its publisher knows. It does not block.
func (s *session) push(o *outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.keys[o.key]; known || s.closing {
		return
	}
	if !s.live || s.behind {
		s.behind = true
		s.catchUpLocked()
		return
	}
	s.holdLocked(o.key)
	s.sendLocked(o)
}

func (s *session) holdLocked(key string) {
	if s.keys == nil {
		s.keys = map[string]struct{}{}
	}
	s.keys[key] = struct{}{}
}

// catchUpLocked has the client's queue read, unless somebody is at it, who then looks once more.
func (s *session) catchUpLocked() {
	if s.reading || s.closing || !s.established.Load() {
		return
	}
	s.reading, s.live = true, false
	s.b.wg.Add(1)
	go s.catchUp()
}

// catchUp sends what is in the client's queue as far as there is room.
func (s *session) catchUp() {
	defer s.b.wg.Done()
	for {
		s.mu.Lock()
		s.letGoLocked()
		if s.closing || len(s.flights) >= s.window() {
			s.reading, s.live = false, true // behind: goes on when the client has acknowledged something
			s.mu.Unlock()
			return
		}
		s.behind = false
		s.mu.Unlock()
		whole, err := s.readQueue()
		s.mu.Lock()
		s.letGoLocked()
		if err != nil {
			s.b.log.Error("queue of an mqtt client cannot be read", "client", s.id, "error", err)
		}
		if !whole || !s.behind {
			s.behind = s.behind || !whole
			s.reading, s.live = false, true
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

// letGoLocked forgets keys of messages that left the queue while it was being read.
func (s *session) letGoLocked() {
	for _, key := range s.left {
		delete(s.keys, key)
	}
	s.left = nil
}

// readQueue goes through the queue once. Not whole: it stopped where there is no room.
func (s *session) readQueue() (whole bool, err error) {
	for rec, err := range s.b.store.Scan(TableQueue, queuePrefix(s.id, s.birth), "") {
		if err != nil {
			return false, err
		}
		if s.holds(rec.Key) {
			continue
		}
		r := &actorv1.MqttMessage{}
		if err := proto.Unmarshal(rec.Value, r); err != nil {
			return false, err
		}
		if !s.resume(r, rec.Key) {
			return false, nil
		}
	}
	return true, nil
}

func (s *session) holds(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.keys[key]
	return ok
}

// resume sends a message out of the queue. False: there is no room.
func (s *session) resume(r *actorv1.MqttMessage, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.keys[key]; known {
		return !s.closing
	}
	o := outgoingOf(r, key)
	if s.closing || len(s.flights) >= s.window() || len(s.out)+o.m.size() > s.b.limits.OutboundBytes && len(s.out) > 0 {
		s.behind = true
		return false
	}
	s.holdLocked(key)
	if r.Released && o.id > 0 {
		s.takeLocked(o)
		s.flights[o.id].released = true
		s.pubrelLocked(o.id)
		return true
	}
	o.dup = o.dup || queueTime(key) <= s.heldUntil
	s.sendLocked(o)
	return true
}

// numberLocked writes the packet id of a message of QoS 2 into its record, then sends it.
func (s *session) numberLocked(o *outgoing) {
	s.rewrite(o, o.record(), func() { s.writeLocked(o) })
}

// releaseLocked writes that the client has the message, then says PUBREL.
func (s *session) releaseLocked(id uint16, f *flight) {
	r := f.o.record()
	r.Payload, r.Properties, r.Released = nil, nil, true
	s.rewrite(f.o, r, func() {
		f.released = true
		s.pubrelLocked(id)
	})
}

// rewriteAgain is how long a message's record waits to be changed once more where the session's own has just changed.
const rewriteAgain = 5 * time.Millisecond

// rewrite changes a message's record, as long as the session's is this connection's: the message may be through at another node by now, and would be
// back. Then it has the session go on, which is locked meanwhile, as it is by the caller.
func (s *session) rewrite(o *outgoing, r *actorv1.MqttMessage, then func()) {
	value, err := proto.Marshal(r)
	if err != nil {
		s.b.log.Error("mqtt message cannot be encoded", "client", s.id, "error", err)
		return
	}
	at := s.client.place.Load()
	if at.connection != s.connection {
		return // it is about to end
	}
	w := pendingWrite{w: storage.Write{Table: TableQueue, Key: o.key, Value: value, Quiet: true},
		guard: storage.Guard{Table: TableSessions, Key: s.id, Revision: at.revision}}
	w.done = func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch f := s.flights[o.id]; {
		case s.closing || f == nil || f.o != o:
		case errors.Is(err, storage.ErrGuard):
			time.AfterFunc(rewriteAgain, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				if f := s.flights[o.id]; !s.closing && f != nil && f.o == o {
					s.rewrite(o, r, then)
				}
			})
		case err == nil:
			then()
		}
	}
	s.b.writer.put(w)
}

// forgetLocked removes an acknowledged message of so many bytes from the client's queue. Its key is known until that is committed, so that it
// is not read again; and while the queue is being read, to the end of that: the reader sees the queue as it was when it began.
func (s *session) forgetLocked(key string, size int) {
	c := s.client
	s.b.writer.add(storage.Write{Table: TableQueue, Key: key, Quiet: true}, func(error) {
		s.mu.Lock()
		if s.reading {
			s.left = append(s.left, key)
		} else {
			delete(s.keys, key)
		}
		s.mu.Unlock()
		c.depthMu.Lock()
		c.messages, c.bytes = max(0, c.messages-1), max(0, c.bytes-size)
		c.depthMu.Unlock()
	})
}
