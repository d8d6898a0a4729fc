package mqtt

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// sweepEvery is how often a node looks for sessions that something is due of.
const sweepEvery = 500 * time.Millisecond

const (
	// lookEach: each so many sweeps the queues of this node's clients are looked at, in case it was not told of a message, and retained messages that expired.
	lookEach = 20
	// strayAfter is when a session counts as lost whose connection is to this node by its record, and is not there: its end could
	// not be written. In milliseconds.
	strayAfter = 30_000
)

// sweep ends sessions of lost nodes, publishes wills that are due, and removes sessions that expired.
func (b *Broker) sweep() {
	defer b.wg.Done()
	b.removeOrphans()
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for n := 0; ; {
		select {
		case <-b.stop:
			return
		case id := <-b.willsTaken:
			lives, _ := b.living()
			b.settled(id, lives)
			continue
		case <-t.C:
			b.sweepOnce()
		}
		if n++; n%lookEach == 0 {
			for _, s := range b.established() {
				s.look()
			}
			if _, ids := b.living(); ids[0] == b.self { // one node does
				b.clearExpired()
			}
		}
	}
}

// living gives the nodes that may have connections, with their incarnations, and their ids in order.
func (b *Broker) living() (map[string]uint64, []string) {
	lives, ids := map[string]uint64{b.self: b.incarnation}, []string{b.self}
	if b.cluster != nil {
		for _, m := range b.cluster.Members() {
			if m.ID != b.self && (m.State == cluster.StateActive || m.State == cluster.StateDraining) {
				lives[m.ID] = m.Incarnation
				ids = append(ids, m.ID)
			}
		}
	}
	slices.Sort(ids)
	return lives, ids
}

func (b *Broker) sweepOnce() {
	lives, ids := b.living()
	now := nowMillis()
	var due []string
	b.clients.mu.RLock()
	for id, c := range b.clients.byID {
		p := c.place.Load()
		if p.node == b.self && p.incarnation == b.incarnation {
			if !p.away && c.here.Load() == nil && now-p.since > strayAfter && b.connected(id) == nil {
				due = append(due, id)
			}
			if !p.away {
				continue
			}
		}
		lost := lives[p.node] != p.incarnation
		switch keeper := ids[xxhash.Sum64String(id)%uint64(len(ids))]; {
		case lost && keeper != b.self, !lost && p.node != b.self:
			continue // another node looks after it
		}
		lost = lost && !p.away
		if lost || p.away && (now >= p.expires || p.hasWill && now >= p.willFrom) {
			due = append(due, id)
		}
	}
	b.clients.mu.RUnlock()
	for _, id := range due {
		if b.closing.Load() {
			return
		}
		b.settled(id, lives)
	}
}

func (b *Broker) settled(id string, lives map[string]uint64) {
	if err := b.settle(id, lives); err != nil && !errors.Is(err, storage.ErrGuard) {
		b.quiet.log(b.log, slog.LevelWarn, "mqtt session not settled yet", "client", id, "error", err)
	}
}

// settle does what is due of a session that nobody is connected with.
func (b *Broker) settle(id string, lives map[string]uint64) error {
	r, revision, err := b.readSession(id)
	if err != nil || r == nil {
		return err
	}
	if !r.Away {
		if lives[r.Node] == r.Incarnation && (r.Node != b.self || b.connected(id) != nil) {
			return nil
		}
		r.Away, r.Since = true, nowMillis()
	}
	p := placeOf(r, revision)
	over := nowMillis() >= p.expires
	if r.Will != nil && nowMillis() >= p.willFrom {
		if !b.willTaken(id, r) {
			return nil // the record keeps it until then
		}
		r.Will = nil
	}
	ctx, cancel := b.background()
	defer cancel()
	if over {
		_, err = b.writeSession(ctx, id, nil, revision)
	} else {
		_, err = b.writeSession(ctx, id, r, revision)
	}
	if err != nil {
		return err
	}
	if c := b.clients.get(id); c != nil {
		c.will.Store(nil)
	}
	if over {
		b.removeQueue(id, r.Birth)
	}
	return nil
}

// willTaken says whether the will of a session, which is due, was taken by those whom it is for. It sees to it that it will be, and
// that the session is settled then.
func (b *Broker) willTaken(id string, r *actorv1.MqttSession) bool {
	c := b.clients.get(id)
	if c == nil {
		return false // not heard of yet
	}
	if w := c.will.Load(); w != nil && w.connection == r.Connection {
		return w.taken.Load()
	}
	w, ok := b.publishWill(id, r, func() { b.tellTaken(id) })
	if ok {
		c.will.Store(w)
	}
	return false
}

// removeQueue removes what was queued for a session that is over, and the packet ids that it had received.
func (b *Broker) removeQueue(id string, birth uint64) {
	for _, table := range []storage.Table{TableQueue, TableReceived} {
		for rec, err := range b.store.Scan(table, queuePrefix(id, birth), "") {
			if err != nil {
				return
			}
			b.discard(table, rec)
		}
	}
}

// discard removes what a session left in the store, a message of a shared subscription once another member has it. If that cannot be, it stays until a node
// starts.
func (b *Broker) discard(table storage.Table, rec storage.Record) {
	remove := func() { b.writer.add(storage.Write{Table: table, Key: rec.Key, Quiet: true}, func(error) {}) }
	r := &actorv1.MqttMessage{}
	if table == TableQueue && proto.Unmarshal(rec.Value, r) == nil {
		if o := outgoingOf(r, ""); o.othersMay() && !o.m.expired() {
			b.passOn(o, func(err error) {
				if err == nil {
					remove()
				}
			})
			return
		}
	}
	remove()
}

// removeOrphans removes what was queued for sessions that are not there any more: of a node that ended between removing a
// session and its queue, or of a publisher that was late.
func (b *Broker) removeOrphans() {
	for _, table := range []storage.Table{TableQueue, TableReceived} {
		last, known := "", false
		for rec, err := range b.store.Scan(table, "", "") {
			if err != nil || b.closing.Load() {
				return
			}
			id, birth, _ := strings.Cut(rec.Key, "\x00")
			birth, _, _ = strings.Cut(birth, "\x00")
			if prefix := id + "\x00" + birth; prefix != last {
				r, _, err := b.readSession(id)
				if err != nil {
					return
				}
				last, known = prefix, r != nil && queuePrefix(id, r.Birth) == prefix+"\x00"
			}
			if !known {
				b.discard(table, rec)
			}
		}
	}
}
