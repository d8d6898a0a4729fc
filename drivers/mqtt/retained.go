package mqtt

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// retained counts what is kept for later subscribers, and holds what was published with QoS 0 until it is written: the newest of
// each topic.
type retained struct {
	mu           sync.Mutex
	count, bytes int
	version      uint64
	counted      time.Time
	// swept is the version in which what expired was looked for, and soonest when the next one does, in milliseconds since 1970; 0: none does.
	swept   uint64
	soonest int64
	dirty   map[string][]byte // topic → record; nil: removed
	flying  map[string][]byte
	wake    chan struct{}
}

// recountRetained is how old this node's count may be while other nodes write, too.
const recountRetained = 10 * time.Second

// retainedSize is what a retained message counts for, in bytes.
func retainedSize(topic string, payload int) int { return 256 + 2*len(topic) + payload }

// recountLocked counts what the store has, where others may have changed it.
func (b *Broker) recountLocked() {
	r := &b.retained
	version := b.store.Version(TableRetained)
	if version == r.version || time.Since(r.counted) < recountRetained {
		return
	}
	r.version, r.counted, r.count, r.bytes = version, time.Now(), 0, 0
	for rec, err := range b.store.Scan(TableRetained, "", "") {
		if err != nil {
			return
		}
		r.count++
		r.bytes += recordSize(rec.Key, rec.Value)
	}
}

func recordSize(topic string, value []byte) int {
	if value == nil {
		return 0
	}
	return retainedSize(topic, len(value)-len(topic))
}

// nowLocked gives the record that a topic has, or is about to have.
func (b *Broker) nowLocked(topic string) []byte {
	r := &b.retained
	if v, ok := r.dirty[topic]; ok {
		return v
	}
	if v, ok := r.flying[topic]; ok {
		return v
	}
	rec, ok, err := b.store.Get(TableRetained, topic)
	if err != nil || !ok {
		return nil
	}
	return rec.Value
}

// retain has the plan's message kept for later subscribers, or removes the one that is, where it is empty: in the plan's own
// transaction, or soon (QoS 0). Two at once may go a little over the bounds.
func (b *Broker) retain(p *plan) {
	topic := p.m.topic
	var value []byte
	if len(p.m.payload) > 0 {
		var err error
		if value, err = proto.Marshal(p.m.record()); err != nil {
			b.log.Error("mqtt message cannot be encoded", "topic", topic, "error", err)
			return
		}
	}
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	b.recountLocked()
	old := b.nowLocked(topic)
	count, bytes := 0, recordSize(topic, value)-recordSize(topic, old)
	switch {
	case old == nil && value != nil:
		count = 1
	case old != nil && value == nil:
		count = -1
	case old == nil:
		return // nothing is removed
	}
	if value != nil && (r.count+count > b.limits.Retained || r.bytes+bytes > b.limits.RetainedBytes) {
		b.stats.refused("retained")
		return
	}
	r.count += count
	r.bytes += bytes
	if p.m.qos == 0 {
		if r.dirty == nil {
			r.dirty = map[string][]byte{}
		}
		r.dirty[topic] = value
		select {
		case r.wake <- struct{}{}:
		default:
		}
		return
	}
	delete(r.dirty, topic) // this one is newer
	p.writes = append(p.writes, storage.Write{Table: TableRetained, Key: topic, Value: value, Quiet: true})
	p.after = append(p.after, func(err error) {
		if err != nil {
			b.miscounted()
		}
	})
}

// miscounted: what was counted may not be what is stored.
func (b *Broker) miscounted() {
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version, r.counted = 0, time.Time{}
}

// keepRetained writes what was published with QoS 0, many topics in one transaction.
func (b *Broker) keepRetained() {
	defer b.wg.Done()
	for {
		select {
		case <-b.retained.wake:
		case <-b.stop:
			b.writeRetained()
			return
		}
		b.writeRetained()
	}
}

func (b *Broker) writeRetained() {
	r := &b.retained
	r.mu.Lock()
	r.flying, r.dirty = r.dirty, nil
	batch := r.flying
	r.mu.Unlock()
	txn, size := &storage.Txn{}, 0
	flush := func() {
		if err := b.writer.commit(txn); err != nil {
			b.miscounted()
		}
		txn, size = &storage.Txn{}, 0
	}
	for topic, value := range batch {
		txn.Writes = append(txn.Writes, storage.Write{Table: TableRetained, Key: topic, Value: value, Quiet: true})
		if size += len(topic) + len(value) + 32; size > writesBytes {
			flush()
		}
	}
	flush()
	r.mu.Lock()
	r.flying = nil
	r.mu.Unlock()
}

// clearExpired removes what expired, which is given to nobody, and takes room.
func (b *Broker) clearExpired() {
	r := &b.retained
	version, now := b.store.Version(TableRetained), nowMillis()
	if version == r.swept && (r.soonest == 0 || now < r.soonest) {
		return
	}
	r.swept, r.soonest = version, 0
	m := &actorv1.MqttMessage{}
	for rec, err := range b.store.Scan(TableRetained, "", "") {
		switch {
		case err != nil:
			r.swept = 0
			return
		case proto.Unmarshal(rec.Value, m) != nil || m.Expires == 0:
		case now >= m.Expires:
			guard := storage.Guard{Table: TableRetained, Key: rec.Key, Revision: rec.Revision} // it is no other one by then
			b.writer.put(pendingWrite{storage.Write{Table: TableRetained, Key: rec.Key, Quiet: true}, guard, func(error) { b.miscounted() }})
		case r.soonest == 0 || m.Expires < r.soonest:
			r.soonest = m.Expires
		}
	}
}

func (r *retained) usage() (count, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count, r.bytes
}

// literal is what the topics that a filter matches begin with, and whether it is a whole topic.
func literal(filter string) (prefix string, whole bool) {
	at := strings.IndexAny(filter, "+#")
	if at < 0 {
		return filter, true
	}
	prefix = filter[:at]
	if filter[at] == '#' {
		prefix = strings.TrimSuffix(prefix, "/") // a/# matches a
	}
	return prefix, false
}

// eachRetained gives the retained messages that a filter matches, those whose topics are behind after, in the order of topics. It
// ends where yield says so.
func (b *Broker) eachRetained(filter, after string, yield func(topic string, m *actorv1.MqttMessage) bool) error {
	prefix, whole := literal(filter)
	fresh := b.unwritten(filter, after)
	give := func(topic string, value []byte) bool {
		m := &actorv1.MqttMessage{}
		if value == nil || proto.Unmarshal(value, m) != nil || m.Expires > 0 && nowMillis() >= m.Expires {
			return true
		}
		return yield(topic, m)
	}
	if whole {
		if after != "" {
			return nil
		}
		value, ok := fresh[filter]
		if !ok {
			rec, _, err := b.store.Get(TableRetained, filter)
			if err != nil {
				return err
			}
			value = rec.Value
		}
		give(filter, value)
		return nil
	}
	topics := slices.Sorted(maps.Keys(fresh))
	// upTo gives what is not in the store yet, as far as a topic.
	upTo := func(topic string) bool {
		for len(topics) > 0 && topics[0] <= topic {
			next := topics[0]
			topics = topics[1:]
			if !give(next, fresh[next]) {
				return false
			}
		}
		return true
	}
	for rec, err := range b.store.Scan(TableRetained, prefix, after) {
		if err != nil {
			return err
		}
		if !covers(filter, rec.Key) {
			continue
		}
		if !upTo(rec.Key) {
			return nil
		}
		if _, known := fresh[rec.Key]; !known && !give(rec.Key, rec.Value) {
			return nil
		}
	}
	if len(topics) > 0 {
		upTo(topics[len(topics)-1])
	}
	return nil
}

// unwritten gives what is not in the store yet.
func (b *Broker) unwritten(filter, after string) map[string][]byte {
	r := &b.retained
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string][]byte{}
	for _, all := range []map[string][]byte{r.flying, r.dirty} {
		for topic, value := range all {
			if topic > after && covers(filter, topic) {
				found[topic] = value
			}
		}
	}
	return found
}

// Retained gives the retained messages that a filter matches, as a subscriber would get them: what a device said last
// before anybody was there to hear it. The messages belong to the caller; their Client is who sent them, User and
// Grant are not known any more. It reads the store, and costs as much as it looks at: all topics that begin as the filter
// does.
func (b *Broker) Retained(filter string) []*Message {
	if filter == "" || checkLength(filter, b.limits) != nil {
		return nil
	}
	var list []*Message
	err := b.eachRetained(filter, "", func(topic string, m *actorv1.MqttMessage) bool {
		list = append(list, &Message{Client: m.From, Topic: topic, Payload: slices.Clone(m.Payload), QoS: byte(m.Qos), Retain: true})
		return true
	})
	if err != nil {
		b.log.Error("retained mqtt messages cannot be read", "filter", filter, "error", err)
	}
	return list
}

// sendRetained gives the client the retained messages of a new subscription. Where there are more than it takes at once,
// the rest is sent as it takes them.
func (s *session) sendRetained(sub *actorv1.MqttSubscription) {
	if _, shared := cutShare(sub.Filter); shared || isReader(sub.Filter) {
		return
	}
	if last, more := s.sendRetainedFrom(sub, ""); more {
		s.b.wg.Add(1)
		go s.sendRest(sub, last)
	}
}

func (s *session) sendRest(sub *actorv1.MqttSubscription, last string) {
	defer s.b.wg.Done()
	more := true
	for waited := time.Now(); more && !s.isClosing() && time.Since(waited) < s.b.limits.WriteTimeout; {
		time.Sleep(2 * time.Millisecond)
		before := last
		if last, more = s.sendRetainedFrom(sub, last); last != before {
			waited = time.Now()
		}
	}
	if more {
		s.b.stats.droppedOut.Inc()
	}
}

// retainedAtOnce is how many retained messages go into a client's queue in one go.
const retainedAtOnce = 64

// sendRetainedFrom sends those behind a topic, in the order of topics. more: there was no room for all; last is where it goes on.
func (s *session) sendRetainedFrom(sub *actorv1.MqttSubscription, after string) (last string, more bool) {
	last = after
	t := &target{of: s.client, qos: byte(sub.Qos), asPublished: true}
	if sub.Identifier > 0 {
		t.identifiers = []int{int(sub.Identifier)}
	}
	p := &plan{b: s.b}
	err := s.b.eachRetained(sub.Filter, after, func(topic string, r *actorv1.MqttMessage) bool {
		m := messageOf(r)
		m.retain = true
		p.m = m
		qos := min(m.qos, t.qos)
		switch queue := qos > 0 && s.keeps; {
		case queue && (len(p.queues) == retainedAtOnce || !s.b.hasRoom(s.client, s.birth, m.size(), replayShare)),
			!queue && !s.hasRoom(len(r.Payload)):
			more = true
			return false
		case queue:
			p.queue(t, s.birth, qos, "")
		default:
			s.send(p.outgoing(t, qos, ""))
		}
		last = max(last, topic)
		return true
	})
	if err != nil {
		s.b.log.Error("retained mqtt messages cannot be read", "filter", sub.Filter, "error", err)
	}
	done := make(chan error, 1)
	p.commit(func(err error) { done <- err })
	if err := <-done; err != nil {
		return after, true
	}
	return last, more
}

// hasRoom says whether the client could take another message now.
func (s *session) hasRoom(payload int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) == 0 && len(s.flights) < s.window() &&
		(len(s.out) == 0 || len(s.out)+payload+overhead < s.b.limits.OutboundBytes/2)
}
