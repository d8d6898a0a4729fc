package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// runTopic begins the place in the outbox of what a route's logic is to see before it goes to the route's topics.
const runTopic = "run/"

const (
	// maxLane bounds the messages that wait in a lane on a node; more of a route are dead letters at once, readings are dropped.
	maxLane = 5_000
	// laneBatch is how many a logic is given before what it said is committed.
	laneBatch = 200
	// laneBytes bounds what a batch writes, between two messages: the largest message, for eight topics and with what is kept of it, fits into
	// the transaction besides.
	laneBytes = 112 << 10
)

// crowded says why a message cannot wait in a lane, or "".
func (o *outbox) crowded(place, logic string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l := o.lanes[place]; l == nil || len(l.queue) < maxLane {
		return ""
	}
	return fmt.Sprintf("%d messages wait for the logic %s, which is too slow", maxLane, logic)
}

// inLane says whether a place of the outbox is that of a logic, which sees messages first.
func inLane(place string) bool {
	for _, prefix := range []string{runTopic, judgeTopic} {
		if id, ok := strings.CutPrefix(place, prefix); ok && strings.Contains(id, "/") {
			return true
		}
	}
	return false
}

// think gives a lane's next messages to the logic, and says how many are settled, and what goes on: it is in the outbox.
func (o *outbox) think(l *lane, batch []outgoing) (settled int, next []outgoing, err error) {
	settled, next, err = o.judge(l.to, batch)
	if errors.Is(err, storage.ErrUnknown) {
		o.reread(l, batch)
	}
	return settled, next, err
}

// asker is who asks a logic by a lane, and what comes of its verdicts.
type asker struct {
	logic, by string
	// scope, where not empty, is for whom alone the logic keeps what it does of a twin.
	scope string
	// copies go on of a message.
	copies int
	// next adds what goes on of a message, and where; the first of it with the message's own key.
	next func(all []outgoing, m outgoing, j *judged) []outgoing
	// count notes what became of messages.
	count func(all []*judged)
}

// askedBy gives who asks by a lane; nil where nobody does any more.
func (o *outbox) askedBy(place string) *asker {
	if id, ok := strings.CutPrefix(place, judgeTopic); ok {
		return o.e.detectors.asked(id)
	}
	x := o.e.routes.get(strings.TrimPrefix(place, runTopic))
	if x == nil {
		return nil
	}
	return &asker{logic: x.Run, by: "route/" + x.Id, copies: max(1, len(x.Topics)), count: x.counts.judged,
		next: func(all []outgoing, m outgoing, j *judged) []outgoing {
			to := x.Topics
			switch {
			case j.err != nil:
				to = x.to[:1] // a dead letter of the route
			case j.verdict == pb.Verdict_VERDICT_STOP:
				return all
			}
			for n, to := range to {
				all = append(all, j.onward(m, to, n))
			}
			return all
		}}
}

// unheard says whether the store has who asks by a lane, and this node's list has not got it yet.
func (o *outbox) unheard(place string) bool {
	table, id, known := tableRoutes, strings.TrimPrefix(place, runTopic), false
	if judge, ok := strings.CutPrefix(place, judgeTopic); ok {
		table, id = tableDetectors, judge
		known = slices.ContainsFunc(o.e.detectors.of(ProjectOf(id)), func(d *detector) bool { return d.Id == id })
	}
	if known {
		return false
	}
	_, there, err := o.e.store.Get(table, id)
	return there || err != nil
}

// judge gives a batch to the logic of a lane, and commits what came of it in one transaction: what the logic keeps is kept, and each message's
// record goes, or is from now on that of what goes on, for where it goes first. done are the messages that are settled.
func (o *outbox) judge(place string, batch []outgoing) (done int, next []outgoing, err error) {
	x := o.askedBy(place)
	if x == nil && o.unheard(place) {
		return 0, nil, fmt.Errorf("%s: this node has yet to hear of it", place)
	}
	txn := &storage.Txn{}
	slots := map[string]bool{}
	all, each := make([]*judged, len(batch)), make([]judged, len(batch))
	for i, m := range batch {
		if own := m.own; !slots[own.Key] {
			slots[own.Key] = true
			txn.Guards = append(txn.Guards, storage.Guard{Table: storage.Table(own.Table), Key: own.Key, Equal: own.Value})
		}
		all[i], each[i] = &each[i], judged{message: m.m.Payload, twin: m.m.Key, at: m.m.Time.AsTime().UnixMilli(), id: m.m.Id}
		if x != nil {
			all[i].by, all[i].copies = x.by, x.copies
		}
	}
	txn.Writes = make([]storage.Write, 0, len(batch)*max(1, each[0].copies))
	next = make([]outgoing, 0, cap(txn.Writes))
	done = len(batch)
	if x != nil && x.logic != "" {
		var kept *cells
		if kept, done, err = o.e.logics.judge(o.e.ctx, x.logic, x.scope, all); err != nil {
			return 0, nil, err
		}
		kept.txn(txn)
	}
	for i, m := range batch[:done] {
		from := len(next)
		if x != nil { // else it was deleted meanwhile
			next = x.next(next, m, all[i])
		}
		if len(next) == from {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableOutbox, Key: m.key, Quiet: true})
		}
		for _, y := range next[from:] {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableOutbox, Key: y.key, Value: y.value, Quiet: true})
		}
	}
	if _, err := o.e.store.Commit(o.e.ctx, txn); err != nil {
		return 0, nil, fmt.Errorf("commit what a logic said: %w", err)
	}
	if x != nil {
		x.count(all[:done])
		return done, next, nil
	}
	why := dropOutgoing
	if strings.HasPrefix(place, judgeTopic) {
		why = dropReadings
	}
	for range done {
		o.e.stats.drop(why)
	}
	return done, next, nil
}

// judged counts what a logic said.
func (c *routeCounts) judged(all []*judged) {
	for _, m := range all {
		switch {
		case m.err != nil:
			c.runFailed.Add(1)
		case m.verdict == pb.Verdict_VERDICT_REPLACE:
			c.replaced.Add(1)
		case m.verdict == pb.Verdict_VERDICT_STOP:
			c.stopped.Add(1)
		default:
			c.passed.Add(1)
		}
	}
}

// onward is the message as it goes to a topic, the nth of the route: as it is, replaced, or with why it is a dead letter.
func (m *judged) onward(x outgoing, to string, n int) outgoing {
	y := outgoing{slot: x.slot, own: x.own, key: x.key, topic: to, m: x.m}
	if n > 0 {
		y.key += "/" + strconv.Itoa(n)
	}
	if m.err != nil {
		y.why = m.err.Error()
	} else if m.verdict == pb.Verdict_VERDICT_REPLACE {
		y.m = withPayload(x.m, m.out)
	}
	y.value = outgoingValue(to, y.m, y.why)
	return y
}

// withPayload is a message with another payload. It shares the rest, which nobody changes.
func withPayload(m *pb.TopicMessage, payload []byte) *pb.TopicMessage {
	return &pb.TopicMessage{Key: m.Key, Payload: payload, ContentType: m.ContentType, Headers: m.Headers, Time: m.Time, Id: m.Id,
		Offset: m.Offset, PublishTime: m.PublishTime}
}

// there says whether the record of a message is there, for the lane where the message is.
func (o *outbox) there(x *outgoing) bool {
	rec, ok, err := o.e.store.Get(tableOutbox, x.key)
	if err != nil || !ok {
		return err != nil
	}
	var m actorv1.Outgoing
	return proto.Unmarshal(rec.Value, &m) != nil || laneOf(m.Topic, m.Refused) == laneOf(x.topic, x.why)
}

// reread looks which messages of a batch are there still, where it is not known whether their transaction was applied.
func (o *outbox) reread(l *lane, batch []outgoing) {
	var gone []outgoing
	for _, x := range batch {
		if !o.there(&x) {
			gone = append(gone, x)
		}
	}
	o.mu.Lock()
	o.leave(l, gone)
	o.mu.Unlock()
	o.gained(func() {}) // what goes on is in the store
}

// rejudge gives a dead letter of a route to its logic again, and publishes what goes on. The error is why it is dead once more.
func (r *Registry) rejudge(ctx context.Context, x *route, m *pb.TopicMessage) error {
	j := &judged{message: m.Payload, twin: m.Key, by: "route/" + x.Id, at: m.Time.AsTime().UnixMilli(), id: m.Id}
	if x.Run != "" {
		if err := r.e.RunLogic(ctx, x.Run, j); err != nil || j.verdict == pb.Verdict_VERDICT_STOP {
			return err
		}
		m.Payload = j.out
	}
	for _, to := range x.Topics {
		if _, err := r.e.streams.Publish(ctx, &pb.PublishRequest{Topic: to, Messages: []*pb.TopicMessage{m}}); err != nil {
			return err
		}
	}
	return nil
}
