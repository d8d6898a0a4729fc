package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// tableOutbox: slot, twin's id, zero, the slot's since and a rising number → actorv1.Outgoing: what a twin has yet to tell a topic.
const tableOutbox storage.Table = "outbox"

const (
	// maxOutgoing bounds the messages of one transaction of a twin, and maxOutgoingBytes their size; more are dropped and counted.
	maxOutgoing      = 128
	maxOutgoingBytes = 32 << 10
	// maxOutbox bounds the messages of a node that wait for their topics: beyond it twins' messages are dropped and counted.
	maxOutbox = 50_000
	// outboxBatch is how many messages go to a topic in one publication, and outboxBytes what they have together.
	outboxBatch = 200
	outboxBytes = 128 << 10
)

// outgoing is a message on its way: in the twin's next transaction, then in the outbox.
type outgoing struct {
	slot  cluster.Slot
	key   string
	topic string
	m     *pb.TopicMessage
	why   string
	value []byte
}

// outbox brings to their topics what twins of this node have committed. The records of a twin leave in their order. After a
// hand-over or a crash they are read again: a message may be published twice, and is known by its id.
type outbox struct {
	e    *Engine
	wake chan struct{}

	mu     sync.Mutex
	queue  []outgoing       // in the order in which they were committed
	lanes  map[string]*lane // by place: messages that a logic is to see first
	known  map[string]struct{}
	rescan bool
	// unread, where not nil, is closed once the records of slots that came are read: before that nothing of theirs leaves.
	unread chan struct{}
}

func newOutbox(e *Engine) *outbox {
	return &outbox{e: e, wake: make(chan struct{}, 1), known: map[string]struct{}{}, lanes: map[string]*lane{}}
}

// gained has the records of slots that came be read before anything else leaves.
func (o *outbox) gained() {
	o.mu.Lock()
	o.rescan = true
	if o.unread == nil {
		o.unread = make(chan struct{})
	}
	o.mu.Unlock()
	signal(o.wake)
}

// add takes messages whose transaction was committed.
func (o *outbox) add(all []outgoing) {
	if len(all) == 0 {
		return
	}
	o.mu.Lock()
	for _, x := range all {
		o.take(x)
	}
	o.mu.Unlock()
	signal(o.wake)
}

func (o *outbox) take(x outgoing) {
	if _, ok := o.known[x.key]; ok {
		return
	}
	o.known[x.key] = struct{}{}
	if x.why == "" && inLane(x.topic) {
		o.enter(x)
		return
	}
	o.queue = append(o.queue, x)
}

func (o *outbox) length() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.known)
}

func (o *outbox) run() {
	for o.e.ctx.Err() == nil {
		if err := o.look(); err != nil && o.e.ctx.Err() == nil {
			o.e.log.Warn("messages of twins wait for their topics", "err", err)
			o.e.pause(time.Second)
			continue
		}
		select {
		case <-o.e.ctx.Done():
		case <-o.wake:
		}
	}
}

// look sends what there is.
func (o *outbox) look() error {
	for {
		o.mu.Lock()
		rescan := o.rescan
		o.rescan = false
		o.mu.Unlock()
		if rescan {
			if err := o.scan(); err != nil {
				o.gained()
				return err
			}
			o.scanned()
		}
		o.mu.Lock()
		batch := slices.Clone(o.queue[:min(len(o.queue), 2000)])
		o.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if err := o.send(batch); err != nil {
			return err
		}
	}
}

// scanned lets go who waits for the records, where no slot has come since.
func (o *outbox) scanned() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.rescan && o.unread != nil {
		close(o.unread)
		o.unread = nil
	}
}

// whole waits until the records of slots that came are read, or the engine ends.
func (o *outbox) whole() {
	for o.e.ctx.Err() == nil {
		o.mu.Lock()
		unread := o.unread
		o.mu.Unlock()
		if unread == nil {
			return
		}
		select {
		case <-unread:
		case <-o.e.ctx.Done():
		}
	}
}

// scan reads the records of this node's slots.
func (o *outbox) scan() error {
	var all []outgoing
	for rec, err := range o.e.store.Scan(tableOutbox, "", "") {
		if err != nil {
			return fmt.Errorf("read outbox: %w", err)
		}
		var slot uint16
		if _, err := fmt.Sscanf(rec.Key, "%04x/", &slot); err != nil || o.e.owned[slot].Load() == nil {
			continue
		}
		m := &actorv1.Outgoing{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return fmt.Errorf("outbox record %q: %w", rec.Key, err)
		}
		all = append(all, outgoing{slot: cluster.Slot(slot), key: rec.Key, topic: m.Topic, m: m.Message, why: m.Refused})
		if len(all) >= maxOutbox {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range all {
		if inLane(x.topic) && !o.there(x.key) {
			continue // it was judged since it was read
		}
		o.take(x)
	}
	// What was there before is older than what was committed since: a twin's keys rise.
	slices.SortStableFunc(o.queue, func(a, b outgoing) int { return strings.Compare(a.key, b.key) })
	for _, l := range o.lanes {
		l.sort()
	}
	return nil
}

// send publishes a batch, by topic, and removes the records of what arrived.
func (o *outbox) send(batch []outgoing) error {
	byTopic := map[string][]outgoing{}
	var done []outgoing
	for _, x := range batch {
		if o.e.owned[x.slot].Load() == nil {
			done = append(done, x) // its next owner reads it
			continue
		}
		byTopic[x.topic] = append(byTopic[x.topic], x)
	}
	o.forget(done, nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var faults []error
	for id, all := range byTopic {
		wg.Go(func() {
			if err := o.publish(id, all); err != nil {
				mu.Lock()
				faults = append(faults, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

// publish brings messages to one topic, in their order.
func (o *outbox) publish(id string, all []outgoing) error {
	for len(all) > 0 {
		n, size := 0, 0
		req := &pb.PublishRequest{Topic: id}
		for n < len(all) && n < outboxBatch && (n == 0 || size+proto.Size(all[n].m) < outboxBytes) && all[n].why == all[0].why {
			size += proto.Size(all[n].m)
			req.Messages = append(req.Messages, all[n].m)
			n++
		}
		ctx, cancel := context.WithTimeout(o.e.ctx, 30*time.Second)
		err := o.deliver(ctx, req, all[0].why)
		cancel()
		if err != nil {
			return fmt.Errorf("topic %s: %w", id, err)
		}
		if err := o.remove(all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// deliver publishes messages, or makes them dead letters of their routes where that cannot be.
func (o *outbox) deliver(ctx context.Context, req *pb.PublishRequest, why string) error {
	if rule, ok := strings.CutPrefix(req.Topic, ruleTopic); ok && strings.Contains(rule, "/") {
		return o.tellRule(ctx, rule, req.Messages)
	}
	if detector, ok := strings.CutPrefix(req.Topic, verdictTopic); ok && strings.Contains(detector, "/") {
		return o.tellVerdicts(ctx, detector, req.Messages)
	}
	if why == "" {
		_, err := o.e.streams.Publish(ctx, req)
		if err == nil {
			return nil
		}
		if !unpublishable(err) {
			return err
		}
		why = err.Error()
	}
	for _, m := range req.Messages {
		list := topic.DeadOf(req.Topic)
		if by := m.Headers[topic.HeaderRoute]; by != "" {
			list = topic.DeadOfRoute(by)
		}
		if err := o.e.streams.BuryIn(ctx, list, req.Topic, m, why); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes the records of messages that arrived. A record is never written again, so this needs no guard.
func (o *outbox) remove(all []outgoing) error {
	txn := &storage.Txn{}
	for _, x := range all {
		txn.Writes = append(txn.Writes, storage.Write{Table: tableOutbox, Key: x.key, Quiet: true})
	}
	ctx, cancel := context.WithTimeout(o.e.ctx, 30*time.Second)
	defer cancel()
	_, err := o.e.store.Commit(ctx, txn)
	if err != nil && !errors.Is(err, storage.ErrUnknown) {
		return fmt.Errorf("remove from outbox: %w", err)
	}
	o.forget(all, err)
	return err
}

// forget takes messages out of the queue.
func (o *outbox) forget(all []outgoing, err error) {
	if len(all) == 0 || err != nil {
		return
	}
	gone := make(map[string]bool, len(all))
	for _, x := range all {
		gone[x.key] = true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = slices.DeleteFunc(o.queue, func(x outgoing) bool { return gone[x.key] })
	for key := range gone {
		delete(o.known, key)
	}
}

// outgoingWrites are the messages that the transaction commits.
func (s *save) outgoingWrites(w []storage.Write) []storage.Write {
	for i := range s.outgoing {
		w = append(w, storage.Write{Table: tableOutbox, Key: s.outgoing[i].key, Value: s.outgoing[i].value, Quiet: true})
	}
	return w
}

// unsend takes back the messages of a transaction that was not applied, or may have been: they are written again, which is the
// same thing twice.
func (s *save) unsend() {
	s.outgoing, s.leaving = append(s.leaving, s.outgoing...), nil
	s.outgoingBytes = 0
	for i := range s.outgoing {
		s.outgoingBytes += len(s.outgoing[i].value)
	}
}

// sayEvent sends an event where the twin's routes lead.
func (t *twin) sayEvent(ev drivers.Emitted) {
	data := state.Value{}
	if len(ev.Data) > 0 {
		data, _ = state.ParseValue(ev.Data) // null where the driver gave no JSON
	}
	t.say(said{kind: "event", name: ev.Name, value: data, at: t.stamp()})
}

// post puts a message into the twin's next transaction.
func (t *twin) post(to, by string, payload []byte, at int64, refused string) {
	s := t.saves()
	if len(s.outgoing) >= maxOutgoing || s.outgoingBytes+len(payload) > maxOutgoingBytes || t.e.outbox.length() >= maxOutbox {
		t.e.stats.drop(dropOutgoing)
		return
	}
	key := fmt.Sprintf("%s%s\x00%016x%016x", slotKey(t.en.slot), t.en.id, t.own.Since, t.nextPost())
	m := &pb.TopicMessage{Key: t.en.id, Payload: payload, ContentType: "application/json", Id: strings.ReplaceAll(key[len("0000/"):], "\x00", "/"),
		Time: timestamppb.New(time.UnixMilli(at)), Headers: map[string]string{topic.HeaderRoute: by}}
	value, err := proto.Marshal(&actorv1.Outgoing{Topic: to, Message: m, Refused: refused})
	if err != nil {
		t.e.log.Error("message of a twin", "twin", t.en.id, "err", err)
		return
	}
	s.outgoing = append(s.outgoing, outgoing{t.en.slot, key, to, m, refused, value})
	s.outgoingBytes += len(value)
	t.changed()   // the next life's numbers begin behind this one's
	t.dirtyAt = 0 // somebody may wait for it
}

// nextPost numbers a twin's messages: rising, also over the lives of the twin within a tenure, whatever the clock does.
func (t *twin) nextPost() uint64 {
	s := t.saves()
	s.posted = max(s.posted+1, t.st.Revision<<16)
	return s.posted
}
