package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// tryWithin bounds one try.
	tryWithin = time.Minute
	// Waits between tries of a notifier that does not say.
	defaultRetryMin, defaultRetryMax = time.Second, 5 * time.Minute
	// lookEach is how often who waits for the end of quiet hours looks for what is urgent, where nothing wakes it.
	lookEach = 5 * time.Second
)

// run is the life of one notifier on this node, under one ownership of its slot and one revision of its record.
type run struct {
	h      *Host
	m      *pb.Notifier
	outbox string
	life   *perslot.Run
	ctx    context.Context

	at    *pb.NotifierState
	way   *way
	quiet automation.Windows
	// ahead is up to where urgent messages were sent before those that wait for the end of the quiet hours.
	ahead uint64
}

func (r *run) work() (err error) {
	if r.at, err = r.h.State(r.m.Id); err != nil {
		return err
	}
	r.at.Node, r.at.WaitFor, r.at.WaitUntil = r.h.o.Node, "", nil
	r.at.Position = max(r.at.Position, 1)
	if r.quiet, err = automation.NewWindows(r.m.Quiet, r.m.Zone); err != nil {
		return err
	}
	if r.way, err = r.h.open(r.m); err != nil {
		r.at.Error, r.at.ErrorTime = perslot.Short(err.Error()), stamp(r.h.o.Now())
		return errors.Join(err, r.commit(nil))
	}
	if err := r.prune(); err != nil {
		return err
	}
	for {
		p, err := r.read(r.at.Position, 5*time.Second)
		if err != nil {
			return err
		}
		if p.Missed > 0 {
			dropped, err := r.unsent(r.at.Position, r.at.Position+p.Missed)
			if err != nil {
				return err
			}
			r.at.Dropped += dropped
			r.h.dropped.Add(int(dropped))
			r.at.Position += p.Missed
			if err := r.commit(nil); err != nil {
				return err
			}
		}
		for _, m := range p.Messages {
			if err := r.pass(m); err != nil {
				return err
			}
			r.at.Position = m.Offset + 1
		}
		r.at.Position = max(r.at.Position, p.Offset)
	}
}

// unsent is how many messages from an offset to before another one have not come to their end: urgent ones may have, before others.
func (r *run) unsent(from, to uint64) (uint64, error) {
	n := to - from
	for rec, err := range r.h.o.Store.Scan(TableOutcomes, r.m.Id+"\x00", outcomeKey(r.m.Id, from-1)) {
		if err != nil || rec.Key >= outcomeKey(r.m.Id, to) {
			return n, err
		}
		out := &pb.NotificationOutcome{}
		if err := proto.Unmarshal(rec.Value, out); err != nil {
			return n, fmt.Errorf("outcome %s: %w", rec.Key, err)
		}
		if out.State > pb.NotificationState_NOTIFICATION_STATE_QUEUED {
			n--
		}
	}
	return n, nil
}

// prune deletes outcomes of messages that the outbox does not keep any more.
func (r *run) prune() error {
	last := r.at.Position - min(r.at.Position, uint64(keep(r.m)))
	var w []storage.Write
	for rec, err := range r.h.o.Store.Scan(TableOutcomes, r.m.Id+"\x00", "") {
		if err != nil {
			return err
		}
		if rec.Key >= outcomeKey(r.m.Id, last) || len(w) == 1000 {
			break
		}
		w = append(w, storage.Write{Table: TableOutcomes, Key: rec.Key, Quiet: true})
	}
	return r.commit(w)
}

// read gives messages from an offset on; it waits for the first of them at most so long.
func (r *run) read(from uint64, wait time.Duration) (p topic.Page, err error) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		ctx, cancel := context.WithTimeout(r.ctx, wait+30*time.Second)
		p, err = r.h.o.Topics.Read(ctx, r.outbox, from, nil, wait)
		cancel()
		if err == nil {
			return p, nil
		}
		if err := r.sleep(pause); err != nil {
			return p, err
		}
	}
}

func (r *run) sleep(d time.Duration) error {
	select {
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// pass brings one message to its end.
func (r *run) pass(m *pb.TopicMessage) error {
	out, err := r.h.outcome(r.m.Id, m.Offset)
	if err != nil {
		return err
	}
	if out.State > pb.NotificationState_NOTIFICATION_STATE_QUEUED {
		return nil
	}
	n, bad := read(r.m.Id, m)
	if bad != nil {
		return r.end(m, out, bad)
	}
	// A try that was begun, and neither failed nor succeeded: its node went.
	out.Repeated = out.Repeated || out.Tries > 0 && out.Error == "" && !r.way.keyed
	out.State = pb.NotificationState_NOTIFICATION_STATE_QUEUED
	for pause := r.retryMin(); ; {
		if err := r.hold(n, m.Offset); err != nil {
			return err
		}
		if late := r.h.o.Now().Sub(m.PublishTime.AsTime()); late > giveUp(r.m) {
			return r.end(m, out, fmt.Errorf("given up after %s: %s", giveUp(r.m), out.Error))
		}
		again, err := r.try(n, m, out)
		if err != nil || again == 0 {
			return err
		}
		if again < 0 {
			again, pause = pause, min(2*pause, r.retryMax())
		}
		if err := r.wait(r.h.o.Now().Add(again), "the next try"); err != nil {
			return err
		}
	}
}

func (r *run) retryMin() time.Duration {
	if r.m.RetryMin == nil {
		return defaultRetryMin
	}
	return r.m.RetryMin.AsDuration()
}

func (r *run) retryMax() time.Duration {
	most := defaultRetryMax
	if r.m.RetryMax != nil {
		most = r.m.RetryMax.AsDuration()
	}
	return max(most, r.retryMin())
}

// try tries all recipients once who do not have the message. again is when it is to be tried again: 0 never, below 0 as the notifier
// says.
func (r *run) try(n *pb.Notification, m *pb.TopicMessage, out *pb.NotificationOutcome) (again time.Duration, err error) {
	all, refused := r.way.recipients(n)
	for _, to := range all {
		if slices.Contains(out.Reached, to) {
			continue
		}
		out.Tries++
		out.Error = ""
		if out.Start == nil {
			out.Start = stamp(r.h.o.Now())
		}
		if err := r.save(m.Offset, out); err != nil {
			return 0, err
		}
		ctx, cancel := context.WithTimeout(r.ctx, tryWithin)
		err := error(nil)
		if !r.h.o.LeaseValid() {
			err = fmt.Errorf("no lease: %w", cluster.ErrUnavailable)
		} else {
			err = r.way.send(ctx, n, to, out)
		}
		cancel()
		switch {
		case r.ctx.Err() != nil && err != nil:
			return 0, r.ctx.Err()
		case errors.Is(err, errRefused):
			refused = errors.Join(refused, err)
			continue
		case err != nil:
			return r.failed(m, out, err)
		}
		if r.way.each {
			out.Reached = append(out.Reached, to)
		}
	}
	return 0, r.end(m, out, refused)
}

// failed commits why a try failed; the same may succeed later.
func (r *run) failed(m *pb.TopicMessage, out *pb.NotificationOutcome, err error) (time.Duration, error) {
	r.h.failures.Inc()
	text := perslot.Short(r.way.hide(err))
	if r.at.Failures == 0 {
		r.at.ErrorTime = stamp(r.h.o.Now())
		r.h.o.Logger.Warn("notifier waits for its provider", "notifier", r.m.Id, "err", text)
	}
	r.at.Failures++
	out.Error, r.at.Error = text, text
	again := time.Duration(-1)
	var later *laterError
	if errors.As(err, &later) {
		again = min(max(later.after, time.Millisecond), r.retryMax())
	}
	return again, r.save(m.Offset, out)
}

// end commits what became of a message for good.
func (r *run) end(m *pb.TopicMessage, out *pb.NotificationOutcome, why error) error {
	out.End = stamp(r.h.o.Now())
	if why != nil {
		out.State, out.Error = pb.NotificationState_NOTIFICATION_STATE_FAILED, perslot.Short(r.way.hide(why))
		r.at.Failed++
		r.h.failed.Inc()
	} else {
		r.way.through(out)
		out.Error = ""
		r.at.Sent++
		r.at.SpanSent++
		r.at.SentTime = out.End
		r.h.sent.Inc()
		if out.State == pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED {
			r.at.Acknowledged++
		}
		r.at.Error, r.at.ErrorTime, r.at.Failures = "", nil, 0
	}
	r.at.WaitFor, r.at.WaitUntil = "", nil
	if m.Offset == r.at.Position {
		r.at.Position++
	}
	return r.save(m.Offset, out)
}

// wait waits until a time, and shows why.
func (r *run) wait(until time.Time, why string) error {
	if err := r.shows(until, why); err != nil {
		return err
	}
	for {
		left := until.Sub(r.h.o.Now())
		if left <= 0 {
			return nil
		}
		if err := r.sleep(min(left, time.Second)); err != nil { // the clock may jump meanwhile
			return err
		}
	}
}

func (r *run) shows(until time.Time, why string) error {
	if r.at.WaitFor == why && r.at.WaitUntil.AsTime().Equal(until) {
		return nil
	}
	r.at.WaitFor, r.at.WaitUntil = why, stamp(until)
	return r.commit(nil)
}

// hold waits for the end of the quiet hours, where the message is not urgent, and then until the limit has room.
func (r *run) hold(n *pb.Notification, offset uint64) error {
	for !n.Urgent {
		now := r.h.o.Now()
		end := r.quiet.Until(now)
		if end.IsZero() {
			break
		}
		if err := r.shows(end, "the end of the quiet hours"); err != nil {
			return err
		}
		if err := r.urgent(offset, min(end.Sub(now), lookEach)); err != nil {
			return err
		}
	}
	for r.m.Limit > 0 {
		per := time.Minute
		if r.m.LimitPer != nil {
			per = r.m.LimitPer.AsDuration()
		}
		now, start := r.h.o.Now(), r.at.SpanStart.AsTime()
		if r.at.SpanStart == nil || now.Sub(start) >= per || now.Before(start) {
			r.at.SpanStart, r.at.SpanSent = stamp(now), 0
		}
		if r.at.SpanSent < r.m.Limit {
			return nil
		}
		if err := r.wait(r.at.SpanStart.AsTime().Add(per), "its limit"); err != nil {
			return err
		}
	}
	return nil
}

// urgent sends the urgent messages behind one that has to wait. It looks for at most so long.
func (r *run) urgent(behind uint64, most time.Duration) error {
	r.ahead = max(r.ahead, behind+1)
	p, err := r.read(r.ahead, most)
	if err != nil {
		return err
	}
	for _, m := range p.Messages {
		if n, bad := read(r.m.Id, m); bad == nil && n.Urgent {
			if err := r.pass(m); err != nil {
				return err
			}
		}
		r.ahead = m.Offset + 1
	}
	r.ahead = max(r.ahead, p.Offset)
	return nil
}

// save commits a message's outcome and the notifier's state.
func (r *run) save(offset uint64, out *pb.NotificationOutcome) error {
	value, err := proto.Marshal(out)
	if err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	w := []storage.Write{{Table: TableOutcomes, Key: outcomeKey(r.m.Id, offset), Value: value, Quiet: true}}
	if most := uint64(keep(r.m)); offset > most && offset-most < r.at.Position { // those behind the position are counted yet
		w = append(w, storage.Write{Table: TableOutcomes, Key: outcomeKey(r.m.Id, offset-most), Quiet: true})
	}
	return r.commit(w)
}

// commit commits the state with other writes, as long as the slot and the record are those of this run.
func (r *run) commit(w []storage.Write) error {
	value, err := proto.Marshal(r.at)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	w = append(w, storage.Write{Table: TableStates, Key: r.m.Id, Value: value, Quiet: true})
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
		_, err := r.h.o.Store.Commit(ctx, &storage.Txn{Guards: r.life.Guards(), Writes: w})
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, storage.ErrGuard):
			return fmt.Errorf("%w: %w", perslot.ErrMoved, err)
		}
		if err := r.sleep(pause); err != nil {
			return err
		}
	}
}

func stamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }
