package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// run is the life of one sink on this node, under one ownership of its slot and one revision of its record.
type run struct {
	h    *Host
	m    *pb.Sink
	life *perslot.Run
	ctx  context.Context

	at *pb.SinkState
	// read is the offset behind what was read; told, that the topic removes what was not.
	read   uint64
	told   bool
	most   int
	wait   time.Duration
	named  bool
	target Target
}

func (r *run) work() error {
	r.at = &pb.SinkState{}
	rec, ok, err := r.h.o.Store.Get(TableCursors, r.m.Id)
	if err != nil {
		return fmt.Errorf("read position: %w", err)
	}
	if ok {
		if err := proto.Unmarshal(rec.Value, r.at); err != nil {
			return fmt.Errorf("read position: %w", err)
		}
	}
	r.at.Node = r.h.o.Node
	if err := r.begin(); err != nil {
		return err
	}
	r.read = r.at.Position
	if err := r.open(); err != nil {
		return err
	}
	for {
		b, next, missed, err := r.gather()
		if err != nil {
			return err
		}
		r.read = next
		if err := r.bound(b, next); err != nil {
			return err
		}
		t := tally{missed: missed}
		if err := r.bring(b, &t); err != nil {
			return err
		}
		r.at.Position = next
		r.count(&t)
		if err := r.commit(); err != nil {
			return err
		}
	}
}

// tally is what became of the messages of a batch. It counts with the position that goes past them: of a batch that is not ended they come again.
type tally struct{ delivered, batches, refused, missed uint64 }

func (r *run) count(t *tally) {
	r.at.Delivered += t.delivered
	r.at.Batches += t.batches
	r.at.Refused += t.refused
	r.at.Missed += t.missed
	if t.delivered > 0 {
		r.at.DeliveredTime = timestamppb.Now()
	}
	r.h.delivered.Add(int(t.delivered))
	r.h.refused.Add(int(t.refused))
	r.h.missed.Add(int(t.missed))
}

// open makes the target ready; while that cannot be it tries again.
func (r *run) open() error {
	u, k, err := read(r.m.Url)
	if err != nil {
		return err
	}
	r.most, r.wait, r.named = 500, time.Second, k.named
	if k.bulk {
		r.most, r.wait = 50_000, time.Minute
	}
	if r.m.BatchMessages > 0 {
		r.most = int(r.m.BatchMessages)
	}
	if r.m.BatchWait != nil {
		r.wait = r.m.BatchWait.AsDuration()
	}
	return r.insist(func(ctx context.Context) error {
		if u.secret, err = r.h.o.Secret(r.m); err != nil {
			return err
		}
		r.target, err = k.open(ctx, u, &r.h.o, r.m.Id)
		if errors.Is(err, ErrRefused) {
			err = fmt.Errorf("%v", err) // it is no message that is refused: the place may be mended
		}
		return err
	})
}

// begin commits where a new sink begins, or one that was given another topic, so that what is published from now on counts, also while its
// target cannot be reached yet.
func (r *run) begin() error {
	if r.at.Topic == "" {
		r.at.Topic = r.m.Topic
	}
	if r.at.Position > 0 && r.at.Topic == r.m.Topic {
		return nil
	}
	start := &pb.TopicPosition{At: &pb.TopicPosition_Newest{Newest: true}}
	if r.m.Oldest {
		start = &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}
	}
	return r.insist(func(ctx context.Context) error {
		// A page that is not used: it tells where reading begins.
		p, err := r.h.o.Topics.Read(ctx, r.m.Topic, 0, start, 0)
		if err != nil {
			return err
		}
		r.at.Topic, r.at.Begun = r.m.Topic, r.life.Record.Revision
		r.at.Position, r.at.Until = p.Offset, 0
		if len(p.Messages) > 0 {
			r.at.Position = p.Messages[0].Offset
		}
		return r.commit()
	})
}

// bound commits where a batch ends, before the first try to deliver it, so that each try is of the same one: another of its name would
// be taken for it; and a file that comes late, from an owner of old or out of a slow server, would take the place of other messages.
func (r *run) bound(b *Batch, next uint64) error {
	if !r.named || len(b.Messages) == 0 || r.at.Until > r.at.Position {
		return nil
	}
	r.at.Until = next
	return r.commit()
}

// gather waits for a message, and takes those that come within the sink's wait, up to its bounds, or what was on its way before. next is
// the offset behind them.
func (r *run) gather() (b *Batch, next, missed uint64, err error) {
	b = &Batch{Sink: r.m.Id, Topic: r.m.Topic, Begun: r.at.Begun}
	next = r.at.Position
	size := 0
	again := r.at.Until > r.at.Position
	enough := func(offset uint64) bool {
		if again {
			return offset >= r.at.Until
		}
		return len(b.Messages) >= r.most || size >= batchBytes
	}
	var full time.Time
	for {
		wait := 5 * time.Second
		if !full.IsZero() {
			wait = min(wait, time.Until(full))
		}
		if wait <= 0 || enough(next) {
			return b, next, missed, nil
		}
		var p topic.Page
		err := r.insist(func(ctx context.Context) error {
			p, err = r.h.o.Topics.Read(ctx, r.m.Topic, next, nil, wait)
			return err
		})
		if err != nil {
			return nil, 0, 0, err
		}
		if p.Next < max(r.at.Position, r.at.Until) { // it is put back from an older backup
			r.at.Position, r.at.Until, again = p.Offset, 0, false
			if len(p.Messages) > 0 {
				r.at.Position = p.Messages[0].Offset
			}
		}
		missed += p.Missed
		for _, m := range p.Messages {
			if enough(m.Offset) {
				return b, m.Offset, missed, nil
			}
			if only := m.Headers[topic.HeaderOnly]; only != "" && only != r.reader() {
				continue // a replay for somebody else: it was here before
			}
			b.Messages = append(b.Messages, m)
			size += proto.Size(m) + 64
		}
		next = p.Offset
		if full.IsZero() && len(b.Messages) > 0 && !again {
			full = time.Now().Add(r.wait)
		}
		if len(b.Messages) == 0 && next != r.at.Position {
			return b, next, missed, nil // only what was missed or skipped
		}
	}
}

// reader is what the sink is called where channels are, of which none has such a name.
func (r *run) reader() string { return "sink " + r.m.Id }

// bring delivers a batch. What the target refuses for good becomes dead letters, one by one where it is several.
func (r *run) bring(b *Batch, t *tally) error {
	if len(b.Messages) == 0 {
		return nil
	}
	err := r.insist(func(ctx context.Context) error { return r.target.Deliver(ctx, b) })
	switch {
	case err == nil:
		t.delivered += uint64(len(b.Messages))
		t.batches++
		return nil
	case !errors.Is(err, ErrRefused):
		return err
	}
	if len(b.Messages) > 1 {
		for _, m := range b.Messages {
			one := *b
			one.Messages = []*pb.TopicMessage{m}
			if err := r.bring(&one, t); err != nil {
				return err
			}
		}
		return nil
	}
	letter := proto.Clone(b.Messages[0]).(*pb.TopicMessage)
	letter.Id = fmt.Sprintf("%s/%016x-%s", r.reader(), b.first(), b.origin()) // another sink may give up the same message
	why := fmt.Sprintf("sink %s: %v", r.m.Id, err)
	t.refused++
	return r.insist(func(ctx context.Context) error { return r.h.o.Topics.Bury(ctx, r.m.Topic, letter, r.reader(), why) })
}

// insist tries until it succeeds, is refused for good, or the run ends. What failed shows in the sink's state.
func (r *run) insist(try func(ctx context.Context) error) error {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		err := r.try(try)
		switch {
		case r.ctx.Err() != nil:
			return r.ctx.Err()
		case err == nil && r.at.Failures > 0:
			r.at.Error, r.at.ErrorTime, r.at.Failures = "", nil, 0
			if err := r.write(); errors.Is(err, perslot.ErrMoved) {
				return err
			}
			return nil
		case err == nil, errors.Is(err, ErrRefused), errors.Is(err, perslot.ErrMoved):
			return err
		}
		r.h.failures.Inc()
		if err := r.failed(err); err != nil {
			return err
		}
		var later *laterError
		if errors.As(err, &later) {
			pause = max(pause, min(later.after, retryMax))
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-time.After(pause):
		}
	}
}

func (r *run) try(try func(ctx context.Context) error) error {
	if !r.h.o.LeaseValid() {
		return fmt.Errorf("no lease: %w", cluster.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(r.ctx, deliverTimeout)
	defer cancel()
	return try(ctx)
}

// failed commits why a try failed. Where not even that can be, it shows with the next one.
func (r *run) failed(err error) error {
	text := perslot.Short(err.Error())
	r.at.Failures++
	if r.at.Error == "" {
		r.at.ErrorTime = timestamppb.Now()
		r.h.o.Logger.Warn("sink waits for its target", "sink", r.m.Id, "err", err)
	}
	if n := r.removed(); n > 0 {
		text = fmt.Sprintf("%s (meanwhile the topic's limits have removed %d messages that were not delivered)", text, n)
		if !r.told {
			r.told = true
			r.h.o.Logger.Warn("sink loses messages: its target is away for longer than the topic keeps them", "sink", r.m.Id, "removed", n)
		}
	}
	r.at.Error = text
	if err := r.write(); errors.Is(err, perslot.ErrMoved) {
		return err
	}
	return nil
}

// removed is how many messages the topic's limits have removed that the sink has not read. They are counted as missed when it goes on.
func (r *run) removed() uint64 {
	rec, ok, err := r.h.o.Store.Get(topic.TableTails, r.m.Topic)
	tail := &actorv1.TopicRecord{}
	if err != nil || !ok || proto.Unmarshal(rec.Value, tail) != nil || r.read == 0 || tail.First <= r.read {
		return 0
	}
	return tail.First - r.read
}

// commit writes the position: what is before it is delivered.
func (r *run) commit() error {
	r.at.Error, r.at.ErrorTime, r.at.Failures, r.told = "", nil, 0, false
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := r.write()
		if err == nil || errors.Is(err, perslot.ErrMoved) || r.ctx.Err() != nil {
			return err
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-time.After(pause):
		}
	}
}

// write commits the state, if the slot and the record are still those of this run.
func (r *run) write() error {
	value, err := proto.Marshal(r.at)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	_, err = r.h.o.Store.Commit(ctx, &storage.Txn{Guards: r.life.Guards(),
		Writes: []storage.Write{{Table: TableCursors, Key: r.m.Id, Value: value, Quiet: true}},
	})
	if errors.Is(err, storage.ErrGuard) {
		return fmt.Errorf("%w: %w", perslot.ErrMoved, err)
	}
	return err
}
