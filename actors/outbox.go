package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// tableOutbox: slot, twin's id, zero, the slot's since, the revision of the twin's record and a rising number → actorv1.Outgoing: what a twin has
// yet to tell a topic. By the revision it is told from what an earlier twin of the same id said, whose numbers it has again. What a
// logic lets go on has the record of its message; further topics have one with a slash and their number behind it.
const tableOutbox storage.Table = "outbox"

const (
	// maxOutgoing bounds the messages of one transaction of a twin, and maxOutgoingBytes their size; more are dropped and counted.
	maxOutgoing      = 128
	maxOutgoingBytes = 40 << 10
	// maxOutbox bounds the messages of a node that wait, and maxOutboxBytes their size; a lane has as much at most as is still free. So
	// there is room for others however long one destination does not answer. More is dropped and counted. What a lost node left comes on top.
	maxOutbox      = 100_000
	maxOutboxBytes = 64 << 20
	// outboxBatch is how many messages a lane brings at once, of a topic's topicBatch: one publication, with outboxBytes at most.
	outboxBatch = 200
	topicBatch  = 1000
	outboxBytes = 192 << 10
	// cleanBatch is how many records of what arrived go in one transaction.
	cleanBatch = 500
	// outboxPatience is how long a destination may take for a publication before it is tried again.
	outboxPatience = 30 * time.Second
)

// outgoing is a message on its way: in the twin's next transaction, then in the outbox.
type outgoing struct {
	slot  cluster.Slot
	own   *cluster.Ownership // the tenure in which its record was there
	key   string
	topic string
	m     *pb.TopicMessage
	why   string
	value []byte // until it is committed
	size  int    // of value, from then on
}

// outbox brings to their topics, rules and logics what twins of this node have committed, each destination in a lane of its own. The
// records of a twin leave in their order. After a hand-over or a crash they are read again: a message may be published twice, and is
// known by its id.
type outbox struct {
	e     *Engine
	owned func(cluster.Slot) *cluster.Ownership
	wake  chan struct{}
	sweep chan struct{}

	mu    sync.Mutex
	lanes map[string]*lane // by destination: those with messages
	line  []*lane          // have messages and wait for a goroutine
	taken int              // goroutines
	known map[string]*lane // by key: what waits
	bytes int
	// spent are the keys of records that may go, and spending those that are about to.
	spent    []string
	spending map[string]struct{}
	failing  int // lanes whose last try failed
	// behind are the topics' lanes that are so long that what leads there has to wait at its door. Written under mu.
	behind atomic.Int32
	rescan bool
	scans  atomic.Uint64 // that have ended. Written under mu
	// unread, where not nil, is closed once the records of slots that came are read: before that nothing of theirs leaves.
	unread chan struct{}
}

func newOutbox(e *Engine) *outbox {
	return &outbox{e: e, wake: make(chan struct{}, 1), sweep: make(chan struct{}, 1), known: map[string]*lane{}, spending: map[string]struct{}{},
		lanes: map[string]*lane{}, owned: func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() }}
}

// gained has the records of slots that come with gain be read before anything else leaves.
func (o *outbox) gained(gain func()) {
	o.mu.Lock()
	gain()
	o.rescan = true
	if o.unread == nil {
		o.unread = make(chan struct{})
	}
	o.mu.Unlock()
	signal(o.wake)
}

// add takes messages whose transaction was committed, having been submitted when scans was what it is given here. What was read from the store since, and
// is through its logic already, is not taken again.
func (o *outbox) add(all []outgoing, scans uint64) {
	if len(all) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if scans != o.scans.Load() {
		all = slices.DeleteFunc(all, func(x outgoing) bool { return inLane(x.topic) && !o.has(x.key) && !o.there(&x) })
	}
	o.addAll(all)
}

// addAll is add. The caller holds o.mu.
func (o *outbox) addAll(all []outgoing) {
	for _, x := range all {
		x.size, x.value = len(x.value), nil
		o.take(x)
	}
}

// take puts a message into its lane, unless it is there. The caller holds o.mu.
func (o *outbox) take(x outgoing) {
	if o.has(x.key) {
		return
	}
	o.bytes += x.size
	o.known[x.key] = o.enter(x)
}

// has says whether a message waits, or has arrived and its record is about to go. The caller holds o.mu.
func (o *outbox) has(key string) bool {
	_, waits := o.known[key]
	_, spent := o.spending[key]
	return waits || spent
}

// run reads the records of slots that came.
func (o *outbox) run() {
	for o.e.ctx.Err() == nil {
		o.mu.Lock()
		rescan := o.rescan
		o.rescan = false
		o.mu.Unlock()
		if rescan {
			if err := o.scan(); err != nil && o.e.ctx.Err() == nil {
				o.e.log.Warn("messages of twins wait for their topics", "err", err)
				o.gained(func() {})
				o.e.pause(time.Second)
				continue
			}
			o.scanned()
		}
		select {
		case <-o.e.ctx.Done():
		case <-o.wake:
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

// scan reads the records of this node's slots.
func (o *outbox) scan() error {
	var all []outgoing
	for rec, err := range o.e.store.Scan(tableOutbox, "", "") {
		if err != nil {
			return fmt.Errorf("read outbox: %w", err)
		}
		var slot cluster.Slot
		if _, err := fmt.Sscanf(rec.Key, "%04x/", &slot); err != nil {
			continue
		}
		own := o.owned(slot)
		if own == nil {
			continue
		}
		m := &actorv1.Outgoing{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return fmt.Errorf("outbox record %q: %w", rec.Key, err)
		}
		all = append(all, outgoing{slot: slot, own: own, key: rec.Key, topic: m.Topic, m: m.Message, why: m.Refused, size: len(rec.Value)})
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scans.Add(1)
	o.correct(all)
	for _, x := range all {
		if inLane(x.topic) && !o.there(&x) {
			continue // it was judged since it was read
		}
		o.take(x)
	}
	// What was there before is older than what was committed since: a twin's keys rise.
	for _, l := range o.lanes {
		l.sort()
	}
	return nil
}

// correct takes messages out of the lanes of logics that another node has asked meanwhile, while their slot was that one's: their records, which were read
// since, say where they are to go now. The caller holds o.mu.
func (o *outbox) correct(read []outgoing) {
	earlier := map[string]outgoing{}
	for _, l := range o.lanes {
		for i := 0; inLane(l.to) && i < len(l.queue); i++ {
			if x := l.queue[i]; x.own != o.owned(x.slot) {
				earlier[x.key] = x
			}
		}
	}
	gone := map[*lane][]outgoing{}
	for _, x := range read {
		if was, ok := earlier[x.key]; ok && laneOf(was.topic, was.why) != laneOf(x.topic, x.why) {
			gone[o.known[x.key]] = append(gone[o.known[x.key]], was)
		}
	}
	for l, all := range gone {
		o.leave(l, all)
	}
}

// publish brings to a topic or rule as many of a lane's messages as go into one publication, and has their records removed. It gives how many
// are settled.
func (o *outbox) publish(batch []outgoing) (settled int, err error) {
	size := 0
	req := &pb.PublishRequest{Topic: batch[0].topic}
	for _, x := range batch {
		if settled > 0 && (size+x.size > outboxBytes || x.why != batch[0].why) {
			break
		}
		size += x.size
		req.Messages = append(req.Messages, x.m)
		settled++
	}
	ctx, cancel := context.WithTimeout(o.e.ctx, outboxPatience)
	defer cancel()
	if err := o.deliver(ctx, req, batch[0].why); err != nil {
		return 0, err
	}
	o.spend(batch[:settled])
	return settled, nil
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

// spend has the records of messages that arrived be removed.
func (o *outbox) spend(all []outgoing) {
	o.mu.Lock()
	for _, x := range all {
		o.spent = append(o.spent, x.key)
		o.spending[x.key] = struct{}{}
	}
	o.mu.Unlock()
	signal(o.sweep)
}

// clean removes the records of what arrived, of all lanes together. One that the node does not come to is published again by who reads it.
// A record is never written again, so this needs no guard.
func (o *outbox) clean() {
	for o.e.ctx.Err() == nil {
		o.mu.Lock()
		keys := o.spent[:min(len(o.spent), cleanBatch)]
		o.mu.Unlock()
		if len(keys) == 0 {
			select {
			case <-o.e.ctx.Done():
			case <-o.sweep:
			}
			continue
		}
		txn := &storage.Txn{}
		for _, key := range keys {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableOutbox, Key: key, Quiet: true})
		}
		if _, err := o.e.store.Commit(o.e.ctx, txn); err != nil {
			o.e.pause(100 * time.Millisecond)
			continue
		}
		o.mu.Lock()
		for _, key := range keys {
			delete(o.spending, key)
		}
		if o.spent = o.spent[len(keys):]; len(o.spent) == 0 {
			o.spent = nil
		}
		o.mu.Unlock()
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
		s.outgoingBytes += len(s.outgoing[i].key) + len(s.outgoing[i].value)
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
	if len(s.outgoing) >= maxOutgoing || s.outgoingBytes+len(payload) > maxOutgoingBytes {
		s.left(dropOutgoing, t)
		return
	}
	if !t.e.outbox.room(laneOf(to, refused), len(payload)) {
		t.e.stats.drop(dropOutgoing)
		return
	}
	key := fmt.Sprintf("%s%s\x00%016x%016x%016x", slotKey(t.en.slot), t.en.id, t.own.Since, t.cfg.revision, t.nextPost())
	m := &pb.TopicMessage{Key: t.en.id, Payload: payload, ContentType: "application/json", Id: strings.ReplaceAll(key[len("0000/"):], "\x00", "/"),
		Time: timestamppb.New(time.UnixMilli(at)), Headers: map[string]string{topic.HeaderRoute: by}}
	value := outgoingValue(to, m, refused)
	s.outgoing = append(s.outgoing, outgoing{slot: t.en.slot, own: t.own, key: key, topic: to, m: m, why: refused, value: value})
	s.outgoingBytes += len(key) + len(value)
	t.tells(to)
	t.changed()   // the next life's numbers begin behind this one's
	t.dirtyAt = 0 // somebody may wait for it
}

// tells notes a topic that the twin tells something, for its frames to wait where that topic is behind: the first, or one that is behind.
func (t *twin) tells(to string) {
	if p, o := t.en.tells.Load(), t.e.outbox; isTopic(to) && (p == nil || *p != to && o.isBehind(&to) && !o.isBehind(p)) {
		told := strings.Clone(to)
		t.en.tells.Store(&told)
	}
}

// nextPost numbers a twin's messages: rising, also over the lives of the twin within a tenure, whatever the clock does.
func (t *twin) nextPost() uint64 {
	s := t.saves()
	s.posted = max(s.posted+1, t.st.Revision<<16)
	return s.posted
}
