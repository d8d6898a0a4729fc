package automation

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxBars is how many bars statistics have at most.
const maxBars = 400

// figures gathers what is measured of a group's spells.
type figures struct {
	m                     *pb.AlarmFigures
	acknowledged, cleared time.Duration // sums
	longest               time.Duration
}

// add counts a spell that has a part in a span.
func (f *figures) add(s *pb.AlarmSpell, start, end time.Time) {
	in := func(t *timestamppb.Timestamp) bool {
		return t != nil && !t.AsTime().Before(start) && t.AsTime().Before(end)
	}
	raised := s.RaiseTime.AsTime()
	if in(s.RaiseTime) {
		f.m.Raised++
	}
	if in(s.AcknowledgeTime) {
		f.m.Acknowledged++
		f.acknowledged += max(0, s.AcknowledgeTime.AsTime().Sub(raised))
	}
	till := end
	switch {
	case in(s.ClearTime):
		f.m.Cleared++
		f.cleared += max(0, s.ClearTime.AsTime().Sub(raised))
		till = s.ClearTime.AsTime()
	default:
		f.m.Open++
		if s.AcknowledgeTime == nil || !s.AcknowledgeTime.AsTime().Before(end) {
			f.m.Unacknowledged++
		}
	}
	if lasted := max(0, till.Sub(raised)); f.m.LongestSpell == nil || lasted > f.longest {
		f.longest, f.m.LongestSpell = lasted, s
	}
}

func (f *figures) done() *pb.AlarmFigures {
	if f.m.Acknowledged > 0 {
		f.m.MeanAcknowledge = durationpb.New(f.acknowledged / time.Duration(f.m.Acknowledged))
	}
	if f.m.Cleared > 0 {
		f.m.MeanClear = durationpb.New(f.cleared / time.Duration(f.m.Cleared))
	}
	if f.m.LongestSpell != nil {
		f.m.Longest = durationpb.New(f.longest)
	}
	return f.m
}

// groupOf is the group that a spell belongs to.
func groupOf(s *pb.AlarmSpell, by pb.AlarmGroup) string {
	switch by {
	case pb.AlarmGroup_ALARM_GROUP_ALARM:
		return s.Alarm
	case pb.AlarmGroup_ALARM_GROUP_TWIN:
		return s.Twin
	case pb.AlarmGroup_ALARM_GROUP_ZONE:
		return s.Zone
	case pb.AlarmGroup_ALARM_GROUP_BY:
		return s.By
	case pb.AlarmGroup_ALARM_GROUP_SEVERITY:
		return severityWord(s.Severity)
	}
	return ""
}

// Figures measures spells that have a part in the span from start to end (excluded): all together, and in groups, those that came most often first.
func Figures(spells []*pb.AlarmSpell, start, end time.Time, by pb.AlarmGroup) (total *pb.AlarmFigures, groups []*pb.AlarmFigures) {
	all, each := figures{m: &pb.AlarmFigures{}}, map[string]*figures{}
	for _, s := range spells {
		all.add(s, start, end)
		if by == pb.AlarmGroup_ALARM_GROUP_UNSPECIFIED {
			continue
		}
		name := groupOf(s, by)
		if each[name] == nil {
			each[name] = &figures{m: &pb.AlarmFigures{Group: name}}
		}
		each[name].add(s, start, end)
	}
	for _, f := range each {
		groups = append(groups, f.done())
	}
	slices.SortFunc(groups, func(a, b *pb.AlarmFigures) int {
		return cmp.Or(cmp.Compare(b.Raised, a.Raised), cmp.Compare(b.Open, a.Open), cmp.Compare(a.Group, b.Group))
	})
	return all.done(), groups
}

// Bars counts what was raised by time: a bar for each step, or for each day where the step is a whole number of them, which begins at midnight of the zone.
func Bars(spells []*pb.AlarmSpell, start, end time.Time, step time.Duration, zone *time.Location) ([]*pb.AlarmBar, error) {
	const day = 24 * time.Hour
	if end.Sub(start)/step >= maxBars {
		return nil, wrong("/step", "there would be more than %d bars: take a longer step, or a shorter span", maxBars)
	}
	var bars []*pb.AlarmBar
	next := func(at time.Time) time.Time { return at.Add(step) }
	at := start.Truncate(step)
	if step%day == 0 {
		local := start.In(zone)
		at = time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, zone)
		next = func(at time.Time) time.Time { return at.AddDate(0, 0, int(step/day)) }
	}
	for ; at.Before(end); at = next(at) {
		bars = append(bars, &pb.AlarmBar{Start: timestamppb.New(at), Raised: map[string]uint64{}})
	}
	for _, s := range spells {
		raised := s.RaiseTime.AsTime()
		if raised.Before(start) || !raised.Before(end) {
			continue
		}
		n, found := slices.BinarySearchFunc(bars, raised, func(b *pb.AlarmBar, t time.Time) int { return b.Start.AsTime().Compare(t) })
		if !found {
			n--
		}
		if n >= 0 {
			bars[n].Raised[severityWord(s.Severity)]++
		}
	}
	return bars, nil
}
