package automation

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// lateAfter is when a firing counts as missed: longer than a move or the loss of a node takes.
	lateAfter = 30 * time.Second
	// maxMissed is how many missed firings are made up for.
	maxMissed = 100
	// maxCounted is how many missed firings are looked at one by one.
	maxCounted = 10_000
)

// schedule is the logic of a schedule.
type schedule struct {
	u    *unit
	conf *pb.Schedule
	plan *Plan
	// fault is why it cannot fire.
	fault string
}

func (s *schedule) configure(t *turn) (bool, error) {
	rec, ok, err := s.u.h.o.Store.Get(TableSchedules, s.u.id)
	if err != nil || !ok {
		return false, err
	}
	s.conf = &pb.Schedule{}
	if err := proto.Unmarshal(rec.Value, s.conf); err != nil {
		return false, fmt.Errorf("record of schedule %s: %w", s.u.id, err)
	}
	s.fault = ""
	if s.plan, err = NewPlan(s.conf.Timing, s.conf.Windows, s.u.h.o.World.Locate); err != nil {
		s.plan, s.fault = nil, err.Error() // such as a zone that this machine does not know
	}
	if s.u.rec.Revision != rec.Revision {
		s.u.rec.Revision, t.dirty = rec.Revision, true
		s.plans(t, t.since(s.conf.UpdateTime, s.u.rec.Last))
	}
	return true, nil
}

// plans works out when it is due next.
func (s *schedule) plans(t *turn, after time.Time) {
	next := int64(0)
	if s.plan != nil && !s.conf.Paused {
		if at := s.plan.Next(after); !at.IsZero() {
			next = at.UnixMilli()
		}
	}
	if next != s.u.rec.Next {
		s.u.rec.Next, s.u.rec.Planned, t.dirty = next, t.ms, true
	}
}

// at is when a firing happens that is due then.
func (s *schedule) at(due int64) int64 {
	return due + jitterOf(s.u.address, time.UnixMilli(due), s.conf.Jitter.AsDuration()).Milliseconds()
}

func (s *schedule) due() int64 {
	if s.u.rec.Next == 0 {
		if s.plan != nil && !s.conf.Paused && s.conf.Timing.GetSun() != nil {
			return s.u.h.o.Now().Add(time.Hour).Truncate(time.Hour).UnixMilli() // its place may be known by then
		}
		return 0
	}
	return s.at(s.u.rec.Next)
}

func (s *schedule) tick(t *turn) {
	if s.plan == nil || s.conf.Paused {
		return
	}
	if s.u.rec.Next == 0 {
		s.plans(t, t.now)
		return
	}
	if s.ahead(t) {
		s.plans(t, t.now)
	}
	var due []int64
	for n := 0; s.u.rec.Next > 0 && s.at(s.u.rec.Next) <= t.ms; n++ {
		due = append(due, s.u.rec.Next)
		if len(due) > maxMissed {
			due = due[1:]
			s.u.rec.Missed++
		}
		after := time.UnixMilli(s.u.rec.Next).Add(time.Millisecond - 1) // it is known to the millisecond
		if n > maxCounted {
			after = t.now.Add(-lateAfter)
		}
		s.plans(t, after)
	}
	s.fireAll(t, due)
}

// fireAll fires what is due, by the policy for what was missed.
func (s *schedule) fireAll(t *turn, due []int64) {
	late := func(at int64) bool { return t.ms-s.at(at) > lateAfter.Milliseconds() }
	switch s.conf.Missed {
	case pb.Missed_MISSED_SKIP:
		n := len(due)
		due = slices.DeleteFunc(due, late)
		s.u.rec.Missed += uint64(n - len(due))
	case pb.Missed_MISSED_ALL:
	default:
		missed := 0
		for missed < len(due) && late(due[missed]) {
			missed++
		}
		if missed > 1 { // the newest stands for all of them
			s.u.rec.Missed += uint64(missed - 1)
			due = due[missed-1:]
		}
	}
	for _, at := range due {
		cause := "due"
		if late(at) {
			cause = "due, and missed then"
		}
		s.u.rec.Firings++
		s.u.rec.Last, t.dirty = at, true
		run := &pb.Run{Due: timestamppb.New(time.UnixMilli(at)), Cause: cause, Values: map[string]string{"due": jsonOf(time.UnixMilli(at).UTC())}}
		if err := s.u.fire(t, run); err != nil {
			s.u.h.o.Logger.Error("schedule", "id", s.u.id, "err", err)
		}
	}
}

func (s *schedule) handle(t *turn, x item) {
	q, ok := x.env.Message.(*actorv1.UnitQuery)
	if !ok {
		x.fail(fmt.Errorf("schedule %s: a %T: %w", s.u.id, x.env.Message, ErrNotFound))
		return
	}
	a := &actorv1.UnitAnswer{Schedule: &pb.ScheduleState{Firings: s.u.rec.Firings, Missed: s.u.rec.Missed, Node: s.u.h.o.Node, Fault: s.fault}}
	if s.u.rec.Last > 0 {
		a.Schedule.Last = timestamppb.New(time.UnixMilli(s.u.rec.Last))
	}
	if s.u.rec.Next > 0 {
		a.Schedule.Next = timestamppb.New(time.UnixMilli(s.at(s.u.rec.Next)))
	} else if s.fault == "" && s.conf.Timing.GetSun() != nil && !s.conf.Paused {
		a.Schedule.Fault = errNoSun.Error()
	}
	if q.Runs {
		a.Runs = s.u.runsOf(20)
	}
	t.answer(x, a)
}

func (s *schedule) actions(*pb.Run) []*pb.Action { return s.conf.GetActions() }

// NextFirings gives when a schedule is due after a time, with jitter; at most n.
func (h *Host) NextFirings(m *pb.Schedule, after time.Time, n int) ([]time.Time, error) {
	p, err := NewPlan(m.Timing, m.Windows, h.o.World.Locate)
	if err != nil {
		return nil, err
	}
	var all []time.Time
	for at := p.Next(after); !at.IsZero() && len(all) < n; at = p.Next(at) {
		all = append(all, at.Add(jitterOf(Address(KindSchedule, m.Id), at, m.Jitter.AsDuration())))
	}
	return all, nil
}
