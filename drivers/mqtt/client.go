package mqtt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
)

// Tables of the broker; see DESIGN.md.
const (
	// TableSessions: client id → actorv1.MqttSession.
	TableSessions storage.Table = "mqtt-session"
	// TableQueue: client id, zero, birth, zero, time and node → actorv1.MqttMessage.
	TableQueue storage.Table = "mqtt-queue"
	// TableReceived: client id, zero, birth, zero, packet id → sum of the message, 8 bytes.
	TableReceived storage.Table = "mqtt-received"
	// TableRetained: topic → actorv1.MqttMessage.
	TableRetained storage.Table = "mqtt-retained"
)

// client is a session of the cluster as this node knows it.
type client struct {
	id    string
	place atomic.Pointer[place]
	here  atomic.Pointer[session] // its connection, where that is to this node
	will  atomic.Pointer[dueWill] // what this node published last for it while nobody was connected

	// Of the broker's clients lock.
	revision uint64
	subs     map[string]*subscription

	// How much is queued, as this node knows: what it counted, and what it added since.
	depthMu  sync.Mutex
	counted  time.Time
	counting time.Duration // what that took
	messages int
	bytes    int
	added    int // of messages, since it was counted
}

// place is where a session is, and whether it has a queue. It is not changed.
type place struct {
	node                     string
	incarnation, connection  uint64
	birth                    uint64
	revision                 uint64 // of the record
	user                     string
	away, keeps, hasWill     bool
	since, expires, willFrom int64 // milliseconds since 1970; expires and willFrom of one that is away, 0: never
}

// clients are all sessions of the cluster.
type clients struct {
	mu   sync.RWMutex
	byID map[string]*client
}

func (c *clients) get(id string) *client {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id]
}

func (c *clients) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.byID)
}

func placeOf(r *actorv1.MqttSession, revision uint64) *place {
	p := &place{revision: revision, node: r.Node, incarnation: r.Incarnation, connection: r.Connection, birth: r.Birth, user: r.User, away: r.Away,
		keeps: r.Expiry > 0 || r.Keeps, hasWill: r.Will != nil, since: r.Since}
	if r.Away {
		p.expires = r.Since + int64(r.Expiry)*1000
		if r.Will != nil {
			p.willFrom = min(r.Since+int64(r.Will.Delay)*1000, p.expires)
		}
	}
	return p
}

// learn takes a session's record, of this node's own commit or of the watch, whichever comes first.
func (b *Broker) learn(id string, r *actorv1.MqttSession, revision uint64) *client {
	b.clients.mu.Lock()
	defer b.clients.mu.Unlock()
	c := b.clients.byID[id]
	if c == nil {
		c = &client{id: id, revision: revision}
		b.clients.byID[id] = c
	} else if c.revision >= revision {
		return c
	}
	c.revision = revision
	before := c.place.Swap(placeOf(r, revision))
	if before != nil && before.birth != r.Birth {
		c.depthMu.Lock()
		c.counted = time.Time{}
		c.depthMu.Unlock()
	}
	b.resubscribe(c, r.Subscriptions)
	if s := c.here.Load(); s != nil && s.connection != r.Connection && s.established.Load() {
		go s.supersede()
	}
	return c
}

// resubscribe has the index know what the record says. The caller has the clients' lock.
func (b *Broker) resubscribe(c *client, subs []*actorv1.MqttSubscription) {
	changed := false
	keep := make(map[string]struct{}, len(subs))
	for _, m := range subs {
		keep[m.Filter] = struct{}{}
		s := newSubscription(c, m)
		if old := c.subs[m.Filter]; old != nil {
			if *old == *s {
				continue
			}
			b.index.remove(old)
		}
		if c.subs == nil {
			c.subs = map[string]*subscription{}
		}
		c.subs[m.Filter] = s
		b.index.add(s)
		changed = true
	}
	for name, s := range c.subs {
		if _, ok := keep[name]; !ok {
			b.index.remove(s)
			delete(c.subs, name)
			changed = true
		}
	}
	if changed {
		b.generation.Add(1)
	}
}

func newSubscription(c *client, m *actorv1.MqttSubscription) *subscription {
	s := &subscription{of: c, name: m.Filter, qos: byte(m.Qos), noLocal: m.NoLocal, asPublished: m.AsPublished,
		handling: byte(m.Handling), identifier: int(m.Identifier)}
	s.filter, s.shared = cutShare(m.Filter)
	return s
}

// unlearn: there is no such session any more.
func (b *Broker) unlearn(id string, revision uint64) {
	b.clients.mu.Lock()
	defer b.clients.mu.Unlock()
	c := b.clients.byID[id]
	if c == nil || c.revision > revision {
		return
	}
	b.resubscribe(c, nil)
	delete(b.clients.byID, id)
	if s := c.here.Load(); s != nil && s.established.Load() && !s.isClosing() {
		go s.supersede()
	}
}

// follow keeps the clients as the records have them. It returns when the first list is read.
func (b *Broker) follow() error {
	ctx, cancel := context.WithCancel(context.Background())
	b.stopFollowing = cancel
	first := make(chan error, 1)
	b.wg.Add(1)
	go func() {
		defer b.wg.Done()
		for after := uint64(0); ctx.Err() == nil; {
			next, err := b.followFrom(ctx, after, first)
			if after = next; errors.Is(err, storage.ErrCompacted) {
				after = 0
			}
			if errors.Is(err, storage.ErrClosed) {
				return
			}
		}
	}()
	return <-first
}

func (b *Broker) followFrom(ctx context.Context, after uint64, first chan<- error) (uint64, error) {
	tell := func(err error) {
		select {
		case first <- err:
		default:
		}
	}
	changes, err := b.store.Watch(ctx, TableSessions, "", after)
	if err != nil {
		tell(err)
		return after, err
	}
	var listed map[string]struct{}
	if after == 0 {
		listed = map[string]struct{}{}
	}
	for batch := range changes {
		for i := range batch {
			after = max(after, batch[i].Revision)
			b.changed(&batch[i])
			if listed != nil {
				listed[batch[i].Key] = struct{}{}
			}
		}
		if len(batch) == 0 && listed != nil {
			b.forgetOthers(listed)
			listed = nil
			tell(nil)
		}
	}
	tell(storage.ErrClosed)
	return after, nil
}

// forgetOthers removes the clients that a new list does not have.
func (b *Broker) forgetOthers(listed map[string]struct{}) {
	b.clients.mu.RLock()
	var gone []*client
	for id, c := range b.clients.byID {
		if _, ok := listed[id]; !ok {
			gone = append(gone, c)
		}
	}
	b.clients.mu.RUnlock()
	for _, c := range gone {
		if _, ok, err := b.store.Get(TableSessions, c.id); err == nil && !ok {
			b.unlearn(c.id, c.revision)
		}
	}
}

func (b *Broker) changed(c *storage.Change) {
	if c.Deleted {
		b.unlearn(c.Key, c.Revision)
		return
	}
	r := &actorv1.MqttSession{}
	if err := proto.Unmarshal(c.Value, r); err != nil {
		b.log.Error("mqtt session cannot be read", "client", c.Key, "error", err)
		return
	}
	b.learn(c.Key, r, c.Revision)
}

// readSession reads a session's record; nil: there is none. Its revision is 0 then.
func (b *Broker) readSession(id string) (*actorv1.MqttSession, uint64, error) {
	rec, ok, err := b.store.Get(TableSessions, id)
	if err != nil || !ok {
		return nil, 0, err
	}
	r := &actorv1.MqttSession{}
	if err := proto.Unmarshal(rec.Value, r); err != nil {
		return nil, 0, fmt.Errorf("session of mqtt client %q: %w", id, err)
	}
	return r, rec.Revision, nil
}

// writeSession commits a session's record, nil: removes it, where it still has the revision.
func (b *Broker) writeSession(ctx context.Context, id string, r *actorv1.MqttSession, revision uint64) (uint64, error) {
	w := storage.Write{Table: TableSessions, Key: id}
	if r != nil {
		var err error
		if w.Value, err = proto.Marshal(r); err != nil {
			return 0, err
		}
	}
	now, err := b.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: TableSessions, Key: id, Revision: revision}},
		Writes: []storage.Write{w}})
	if err != nil {
		return 0, fmt.Errorf("write session of mqtt client %q: %w", id, err)
	}
	if r == nil {
		b.unlearn(id, now)
	} else {
		b.learn(id, r, now)
	}
	return now, nil
}

// lives says whether a node in one of its lives may have connections.
func (b *Broker) lives(node string, incarnation uint64) bool {
	if node == b.self {
		return incarnation == b.incarnation
	}
	if b.cluster == nil {
		return false
	}
	for _, m := range b.cluster.Members() {
		if m.ID == node {
			return m.Incarnation == incarnation && (m.State == cluster.StateActive || m.State == cluster.StateDraining)
		}
	}
	return false
}
