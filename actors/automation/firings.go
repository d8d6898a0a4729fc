package automation

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// FiringsQuery asks for a schedule's part of a calendar.
type FiringsQuery struct {
	// Start and End (excluded) of the calendar. What was before Now is read from what is remembered, what comes after is worked out.
	Start, End, Now time.Time
	// Zone of the days, of each of which so many times are given.
	Zone   *time.Location
	PerDay int
}

// Firings gives what a calendar shows of a schedule, in the order of time. An error is why it cannot fire. It is read here, wherever the schedule lives.
func (h *Host) Firings(m *pb.Schedule, q FiringsQuery) ([]*pb.Firing, error) {
	all := h.past(m, q)
	if m.Paused || !q.End.After(q.Now) {
		return all, nil
	}
	due, err := NewPlan(m.Timing, m.Windows, h.o.World.Locate)
	if err != nil {
		return all, err
	}
	c := clocks{plan: due, timing: m.Timing, changes: ClockChanges(due.zone, q.Start.Add(-48*time.Hour), q.End.Add(48*time.Hour))}
	whole, skipped, err := withExceptions(m, due)
	if err != nil {
		return all, err
	}
	from := q.Now
	if q.Start.After(from) {
		from = q.Start.Add(-1)
	}
	at, day, n := whole.Next(from), dayOf(from, q.Zone), 0
	if at.IsZero() && m.Timing.GetSun() != nil {
		return all, errNoSun
	}
	for !at.IsZero() && at.Before(q.End) {
		if d := dayOf(at, q.Zone); d != day {
			day, n = d, 0
		}
		if n == q.PerDay {
			all[len(all)-1].More = true
			at = whole.Next(day.AddDate(0, 0, 1).Add(-1))
			continue
		}
		n++
		f := &pb.Firing{Schedule: m.Id, Title: m.Title, Zone: m.Timing.Zone, State: pb.FiringState_FIRING_STATE_PLANNED,
			Time: timestamppb.New(at.Add(jitterOf(Address(KindSchedule, m.Id), at, m.Jitter.AsDuration())))}
		if skipped(at) {
			f.State, f.Note = pb.FiringState_FIRING_STATE_LEFT_OUT, "one of the schedule's exceptions"
		} else if f.Note = c.note(at); f.Note != "" {
			f.Shifted = true
		}
		all = append(all, f)
		at = whole.Next(at)
	}
	return all, nil
}

// past gives what a schedule did in a calendar's time, as far as it is remembered.
func (h *Host) past(m *pb.Schedule, q FiringsQuery) (all []*pb.Firing) {
	if !q.Start.Before(q.Now) {
		return nil
	}
	u := &unit{h: h, address: Address(KindSchedule, m.Id), rec: &actorv1.Unit{}}
	rec, ok, err := h.o.Store.Get(TableUnits, u.address)
	if err != nil || !ok || proto.Unmarshal(rec.Value, u.rec) != nil {
		return nil
	}
	for _, run := range u.runsOf(maxRuns) {
		if at := run.Time.AsTime(); at.Before(q.Start) || !at.Before(q.End) {
			continue
		}
		f := &pb.Firing{Schedule: m.Id, Title: m.Title, Zone: m.Timing.Zone, Time: run.Time, State: pb.FiringState_FIRING_STATE_DONE}
		switch run.State {
		case pb.RunState_RUN_STATE_OPEN:
			f.State = pb.FiringState_FIRING_STATE_OPEN
		case pb.RunState_RUN_STATE_FAILED:
			f.State = pb.FiringState_FIRING_STATE_FAILED
			if n := slices.IndexFunc(run.Steps, func(s *pb.Step) bool { return s.Error != "" }); n >= 0 {
				f.Note = run.Steps[n].Action + ": " + run.Steps[n].Error
			}
		}
		if run.Cause != "due" && f.Note == "" {
			f.Note = run.Cause
		}
		all = append(all, f)
	}
	slices.Reverse(all) // they are the newest first
	return all
}

// withExceptions gives the plan of a schedule as if it had none, and which of its times they leave out.
func withExceptions(m *pb.Schedule, due *Plan) (*Plan, func(time.Time) bool, error) {
	c := m.Timing.GetCalendar()
	if len(c.GetExcept()) == 0 {
		return due, func(time.Time) bool { return false }, nil
	}
	spans, err := readDates("/calendar/except", c.Except)
	if err != nil {
		return nil, nil, err
	}
	t := proto.Clone(m.Timing).(*pb.Timing)
	t.GetCalendar().Except = nil
	whole, err := NewPlan(t, m.Windows, nil)
	return whole, func(at time.Time) bool { return spansHave(spans, at.In(due.zone)) }, err
}

// dayOf is the midnight at which a time's day begins.
func dayOf(at time.Time, zone *time.Location) time.Time {
	local := at.In(zone)
	return time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, zone)
}

// ClockChanges gives when the clocks of a zone are set between two times.
func ClockChanges(zone *time.Location, start, end time.Time) (all []*pb.ClockChange) {
	for at := start; ; {
		_, next := at.In(zone).ZoneBounds()
		if next.IsZero() || !next.Before(end) {
			return all
		}
		_, before := next.Add(-time.Second).Zone()
		if _, after := next.Zone(); after != before {
			all = append(all, &pb.ClockChange{Zone: zone.String(), Time: timestamppb.New(next), By: durationpb.New(time.Duration(after-before) * time.Second)})
		}
		at = next
	}
}

// clocks knows what changes of the clocks make of a plan's times.
type clocks struct {
	plan    *Plan
	timing  *pb.Timing
	changes []*pb.ClockChange
	wall    *Plan // the same on clocks that are never set; made when it is needed
}

// note says what a change of the clocks makes of a firing; empty: nothing.
func (c *clocks) note(at time.Time) string {
	if c.timing.GetCron() == "" && c.timing.GetCalendar() == nil {
		return ""
	}
	const shown = "15:04"
	for _, x := range c.changes {
		by, set := x.By.AsDuration(), x.Time.AsTime()
		local := at.In(c.plan.zone)
		switch {
		case by > 0 && !at.Before(set) && at.Before(set.Add(by)) && !c.named(local):
			return fmt.Sprintf("the clocks skip %s", time.Date(0, 1, 1, local.Hour(), local.Minute(), 0, 0, time.UTC).Add(-by).Format(shown))
		case by < 0 && !at.Before(set.Add(by)) && at.Before(set) && !c.plan.Next(at.Add(-by-1)).Equal(at.Add(-by)):
			return fmt.Sprintf("%s comes twice: it is due the first time", local.Format(shown))
		}
	}
	return ""
}

// named says whether the timing itself names what the clocks show.
func (c *clocks) named(local time.Time) bool {
	if c.wall == nil {
		t := proto.Clone(c.timing).(*pb.Timing)
		t.Zone = ""
		wall, err := NewPlan(t, nil, nil)
		if err != nil {
			return true
		}
		c.wall = wall
	}
	_, offset := local.Zone()
	shows := local.Add(time.Duration(offset) * time.Second)
	return c.wall.Next(shows.Add(-1)).Equal(shows)
}
