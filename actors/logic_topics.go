package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// A logic that is bound to topics reads each by a channel, as any reader does; its messages go to `run`. One node does so for a logic: the
// owner of the slot of reader/ID.

const (
	// tableReadings: logic's id → actorv1.Readings. It is written with the twin.
	tableReadings storage.Table = "reading"
	// tableSettled: logic's id, zero, topic, zero, channel, zero, offset (16 hexadecimal digits) of the first → actorv1.Settled.
	tableSettled storage.Table = "settled"

	// readerRoom is how many messages a logic holds of a topic, readerHolds for how long at most before it gives back those that it has
	// not begun: others may be faster, and the channel's time for them may end.
	readerRoom  = 64
	readerHolds = 10 * time.Second
	// restLook is how often at least who waits for a logic looks whether it can be asked.
	restLook = 5 * time.Second
	// maxUnsettled bounds what is remembered as settled by the logic and not by the topic: beyond it the reader begins anew.
	maxUnsettled = 4096
)

// errResting ends a subscription: the logic cannot be asked now. What was given to it goes back, and no attempt is counted.
var errResting = errors.New("the logic cannot be asked now")

// newReaders makes the host of the logics that read topics here.
func newReaders(e *Engine) *perslot.Host {
	return perslot.New(perslot.Options{Store: e.store, Kind: "reader", Table: tableReadings, Logger: e.log, Run: e.readTopics,
		Owned:  func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		Wanted: func(storage.Record) (bool, error) { return true, nil }})
}

// readTopics is the life of a logic that reads topics: a goroutine for each of them.
func (e *Engine) readTopics(life *perslot.Run) error {
	m := &actorv1.Readings{}
	if err := proto.Unmarshal(life.Record.Value, m); err != nil {
		return fmt.Errorf("reading %s: %w", life.Record.Key, err)
	}
	if err := e.pruneSettled(life.Ctx, life.Record.Key, m.Reads); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(life.Ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, x := range m.Reads {
		r := &reading{e: e, life: life, logic: life.Record.Key, topic: x.Topic, channel: x.Channel}
		wg.Go(func() { cancel(r.work(ctx)) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// pruneSettled forgets what was settled of topics that a logic does not read any more.
func (e *Engine) pruneSettled(ctx context.Context, logic string, reads []*pb.TopicReading) error {
	txn := &storage.Txn{}
	for rec, err := range e.store.Scan(tableSettled, logic+"\x00", "") {
		if err != nil {
			return fmt.Errorf("read what is settled: %w", err)
		}
		part := strings.Split(rec.Key, "\x00")
		if len(part) != 4 || !slices.ContainsFunc(reads, func(x *pb.TopicReading) bool { return x.Topic == part[1] && x.Channel == part[2] }) {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableSettled, Key: rec.Key, Quiet: true})
		}
	}
	if len(txn.Writes) == 0 {
		return nil
	}
	if _, err := e.store.Commit(ctx, txn); err != nil {
		return fmt.Errorf("forget what was settled: %w", err)
	}
	return nil
}

// reading is one topic that a logic reads.
type reading struct {
	e                     *Engine
	life                  *perslot.Run
	logic, topic, channel string

	reader string
	began  time.Time // of what it was given last
	// settled are messages whose effects are committed, and by is in which record; their settlement is perhaps not known at the topic.
	settled map[uint64]string
	gone    []string // records that nobody needs any more
}

// work reads until the life ends or is no longer the one that may.
func (r *reading) work(ctx context.Context) error {
	for wait := time.Second; ctx.Err() == nil; {
		err := r.restore(ctx)
		if err == nil {
			began := time.Now()
			err = r.e.streams.SubscribeAfter(ctx, &pb.SubscribeRequest{Topic: r.topic, Channel: r.channel, MaxInFlight: readerRoom}, r.life.Record.Revision,
				func(m *pb.SubscribeResponse) error { return r.take(ctx, m) })
			if time.Since(began) > time.Minute {
				wait = time.Second
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, perslot.ErrMoved):
			return err
		case errors.Is(err, errResting):
			r.rest(ctx)
			wait = time.Second
			continue
		}
		if err == nil {
			continue
		}
		r.e.logics.reads(r.logic, r.topic, err)
		r.pause(ctx, wait)
		wait = min(2*wait, 30*time.Second)
	}
	return ctx.Err()
}

func (r *reading) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// rest waits until the logic can be asked again.
func (r *reading) rest(ctx context.Context) {
	for wait := fileLook; ctx.Err() == nil; wait = min(2*wait, restLook) {
		err := r.e.logics.ready(ctx, r.logic)
		r.e.logics.reads(r.logic, r.topic, err)
		if err == nil {
			return
		}
		r.pause(ctx, wait)
	}
}

// restore reads what an earlier life has settled, and forgets what the channel is past.
func (r *reading) restore(ctx context.Context) error {
	r.settled, r.gone = map[uint64]string{}, nil
	position := uint64(0)
	for rec, err := range r.e.store.Scan(tableSettled, r.prefix(), "") {
		if err != nil {
			return fmt.Errorf("read what is settled: %w", err)
		}
		m := &actorv1.Settled{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return fmt.Errorf("record %q: %w", rec.Key, err)
		}
		if position == 0 {
			all, err := r.e.streams.Channels(ctx, r.topic)
			if err != nil {
				return err
			}
			for _, c := range all {
				if c.Name == r.channel {
					position = c.Position
				}
			}
		}
		if position > 0 && slices.Max(m.Offsets) < position {
			r.gone = append(r.gone, rec.Key)
			continue
		}
		for _, at := range m.Offsets {
			r.settled[at] = rec.Key
		}
	}
	return nil
}

func (r *reading) prefix() string { return r.logic + "\x00" + r.topic + "\x00" + r.channel + "\x00" }

// take has messages run through the logic, and settles them.
func (r *reading) take(ctx context.Context, m *pb.SubscribeResponse) error {
	if m.Reader != "" {
		r.reader = m.Reader
	}
	r.e.logics.reads(r.logic, r.topic, nil)
	r.began = time.Now()
	defer r.clear()
	var left []*pb.Delivery
	var known []uint64
	for _, d := range m.Messages {
		if _, ok := r.settled[d.Message.Offset]; ok {
			known = append(known, d.Message.Offset)
		} else {
			left = append(left, d)
		}
	}
	if err := r.ack(ctx, known); err != nil {
		return err
	}
	for len(left) > 0 {
		if time.Since(r.began) > readerHolds {
			return errResting // what is left goes back
		}
		n, err := r.batch(ctx, left)
		if err != nil {
			return err
		}
		left = left[n:]
	}
	return nil
}

// batch gives messages to the logic, commits what it keeps of them and settles them. It says how many of them it came to.
func (r *reading) batch(ctx context.Context, given []*pb.Delivery) (int, error) {
	all := make([]*judged, len(given))
	for i, d := range given {
		all[i] = r.message(d)
	}
	kept, n, err := r.e.logics.judge(ctx, r.logic, "", all)
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, errResting // its file is not here, or the node ends
	}
	var done, failed []uint64
	resting := false
	for i, m := range all[:n] {
		var not *notReadyError
		switch {
		case m.err == nil:
			done = append(done, given[i].Message.Offset)
		case errors.As(m.err, &not):
			resting = true
		default:
			failed = append(failed, given[i].Message.Offset)
		}
	}
	if again, err := r.commit(ctx, kept, done); again || err != nil {
		return 0, err
	}
	if err := r.ack(ctx, done); err != nil {
		return 0, err
	}
	for i, m := range all[:n] {
		if slices.Contains(failed, given[i].Message.Offset) {
			if _, err := r.settle(ctx, &pb.AckRequest{Failed: []uint64{given[i].Message.Offset}, Reason: clip(m.err.Error(), 500)}); err != nil {
				return 0, err
			}
		}
	}
	if resting {
		return 0, errResting
	}
	return n, nil
}

// message is a topic's message as a run gets it: JSON where it is that, else a text. It is about the twin whose id is its key, if there is one.
func (r *reading) message(d *pb.Delivery) *judged {
	x := d.Message
	m := &judged{message: x.Payload, by: "topic/" + r.topic, at: x.Time.AsTime().UnixMilli(), id: x.Id, key: x.Key, headers: x.Headers, attempt: d.Attempt,
		last: true}
	if !json.Valid(x.Payload) {
		m.message = appendString(nil, string(x.Payload))
	}
	if x.Time == nil {
		m.at = x.PublishTime.AsTime().UnixMilli()
	}
	if id, err := CanonicalID(x.Key); err == nil && id == x.Key && ProjectOf(id) == ProjectOf(r.logic) {
		if _, there, err := r.e.store.Get(tableTwins, id); err == nil && there {
			m.twin = id
		}
	}
	return m
}

// commit commits what the logic keeps, and which messages it is of. again: somebody else changed the same meanwhile, so they are to be run again.
func (r *reading) commit(ctx context.Context, kept *cells, done []uint64) (again bool, err error) {
	txn := kept.txn(nil)
	if txn == nil || len(done) == 0 {
		return false, nil // nothing that would count twice
	}
	key := fmt.Sprintf("%s%016x", r.prefix(), done[0])
	value, err := proto.Marshal(&actorv1.Settled{Topic: r.topic, Channel: r.channel, Offsets: done})
	if err != nil {
		return false, fmt.Errorf("what is settled: %w", err)
	}
	guards := r.life.Guards()
	txn.Guards = append(append(txn.Guards, guards...), storage.Guard{Table: tableSettled, Key: key})
	txn.Writes = append(txn.Writes, storage.Write{Table: tableSettled, Key: key, Value: value, Quiet: true})
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		_, err := r.e.store.Commit(ctx, txn)
		switch {
		case err == nil, isGuard(err) && r.wrote(key, value): // it was applied when its outcome was not known
			for _, at := range done {
				r.settled[at] = key
			}
			return false, nil
		case isGuard(err):
			if !r.mine(guards) {
				return false, fmt.Errorf("%w: %w", perslot.ErrMoved, err)
			}
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		}
		r.pause(ctx, wait)
	}
}

func (r *reading) wrote(key string, value []byte) bool {
	rec, ok, err := r.e.store.Get(tableSettled, key)
	return err == nil && ok && string(rec.Value) == string(value)
}

// mine says whether the slot and the record are still those of this life.
func (r *reading) mine(guards []storage.Guard) bool {
	for _, g := range guards {
		rec, ok, err := r.e.store.Get(g.Table, g.Key)
		if err != nil || !ok || g.Equal != nil && string(rec.Value) != string(g.Equal) || g.Equal == nil && rec.Revision != g.Revision {
			return false
		}
	}
	return true
}

// ack settles messages; what was kept of them needs no record from then on.
func (r *reading) ack(ctx context.Context, done []uint64) error {
	if len(done) == 0 {
		return nil
	}
	stale, err := r.settle(ctx, &pb.AckRequest{Offsets: done})
	if err != nil || stale && len(r.settled) < maxUnsettled {
		return err // those come again
	}
	if stale {
		return fmt.Errorf("%w: messages come again that it has settled", errResting)
	}
	records := map[string]bool{}
	for _, at := range done {
		if key, ok := r.settled[at]; ok {
			records[key] = true
			delete(r.settled, at)
		}
	}
	for _, key := range r.settled {
		delete(records, key) // it has others
	}
	r.gone = append(r.gone, slices.Collect(maps.Keys(records))...)
	return nil
}

// clear has the records removed that nobody needs any more. It does not wait for that: they harm nobody.
func (r *reading) clear() {
	if len(r.gone) == 0 {
		return
	}
	txn := &storage.Txn{}
	for _, key := range r.gone {
		txn.Writes = append(txn.Writes, storage.Write{Table: tableSettled, Key: key, Quiet: true})
	}
	if r.e.store.Submit(txn, func(storage.Result) {}) == nil {
		r.gone = nil
	}
}

// settle tells the topic. stale: some of the messages were given to somebody again, who will find them settled, or run them again.
func (r *reading) settle(ctx context.Context, m *pb.AckRequest) (stale bool, err error) {
	m.Topic, m.Channel, m.Reader = r.topic, r.channel, r.reader
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	res, err := r.e.streams.Ack(ctx, m)
	if err != nil {
		return false, fmt.Errorf("settle: %w", err)
	}
	return res.Stale > 0, nil
}

// ready says whether a logic can be asked on this node now, and why not. It has its file loaded.
func (l *logics) ready(ctx context.Context, id string) error {
	x, _, s, err := l.of(id)
	if err != nil {
		return err
	}
	if err := x.resting(l.e); err != nil {
		return err
	}
	run, err := l.e.registry.runner(ctx, s.digest)
	if err != nil {
		return fmt.Errorf("logic %s: %w", id, err)
	}
	l.e.runners.release(run)
	x.arrived()
	return nil
}

// reads notes why a logic does not read a topic, or that it does.
func (l *logics) reads(id, topic string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && l.deaf[id] != nil:
		delete(l.deaf[id], topic)
	case err != nil && l.deaf[id] == nil:
		l.deaf[id] = map[string]string{topic: err.Error()}
	case err != nil:
		l.deaf[id][topic] = err.Error()
	}
}

// deafTo says why a logic does not read a topic that this node reads for it, or "".
func (l *logics) deafTo(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(l.deaf[id])) {
		return "topic " + topic + ": " + l.deaf[id][topic]
	}
	return ""
}
