package automation

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Plan says when something is due. It is immutable and has no clock of its own.
type Plan struct {
	next    func(after time.Time) time.Time
	windows []window
	zone    *time.Location
}

// Locate gives the place that a Sun is about; false: nobody knows it.
type Locate func(*pb.Sun) (*pb.Place, bool)

// NewPlan reads a timing and the windows in which it counts. Its errors are *FieldError with paths below the timing's.
func NewPlan(t *pb.Timing, windows []*pb.Window, locate Locate) (*Plan, error) {
	zone, err := cron.Zone(t.GetZone())
	if err != nil {
		return nil, wrong("/zone", "%v", err)
	}
	p := &Plan{zone: zone}
	if p.windows, err = newWindows(windows, zone); err != nil {
		return nil, err
	}
	switch x := t.GetWhen().(type) {
	case *pb.Timing_At:
		at := x.At.AsTime()
		p.next = func(after time.Time) time.Time {
			if at.After(after) {
				return at
			}
			return time.Time{}
		}
	case *pb.Timing_Every:
		if x.Every.GetPeriod().AsDuration() < 100*time.Millisecond {
			return nil, wrong("/every/period", "it is below 100ms")
		}
		p.next = every(x.Every)
	case *pb.Timing_Cron:
		s, err := cron.Parse(x.Cron, t.Zone)
		if err != nil {
			return nil, wrong("/cron", "%v", err)
		}
		p.next = s.Next
	case *pb.Timing_Calendar:
		c, err := newCalendar(x.Calendar, zone)
		if err != nil {
			return nil, err
		}
		p.next = c.next
	case *pb.Timing_Sun:
		s := x.Sun
		if s.Place == nil && s.TwinId == "" && s.ZoneId == "" {
			return nil, wrong("/sun", "name a place, a twin or a zone")
		}
		p.next = func(after time.Time) time.Time { return nextSun(s, zone, locate, after) }
	default:
		return nil, wrong("", "name one of at, every, cron, calendar, sun")
	}
	return p, nil
}

// Next is the first time after another one when it is due; zero where there is none (within the years that are looked at).
func (p *Plan) Next(after time.Time) time.Time {
	for range 1000 {
		at := p.next(after)
		if at.IsZero() || within(p.windows, at) {
			return at
		}
		opens := opening(p.windows, at)
		if opens.IsZero() {
			return time.Time{}
		}
		after = opens.Add(-1)
	}
	return time.Time{}
}

func every(e *pb.Every) func(time.Time) time.Time {
	period, from := e.Period.AsDuration(), time.Unix(0, 0)
	if e.From != nil {
		from = e.From.AsTime()
	}
	return func(after time.Time) time.Time {
		if after.Before(from) {
			return from
		}
		// In milliseconds: the difference of two times that are centuries apart does not fit a Duration.
		ms := period.Milliseconds()
		n := (after.UnixMilli()-from.UnixMilli())/ms + 1
		return time.UnixMilli(from.UnixMilli() + n*ms).UTC()
	}
}

// nextSun looks at the days of a year and a bit: near the poles the sun may not rise for months.
func nextSun(s *pb.Sun, zone *time.Location, locate Locate, after time.Time) time.Time {
	place := s.Place
	if place == nil {
		ok := false
		if locate != nil {
			place, ok = locate(s)
		}
		if !ok {
			return time.Time{}
		}
	}
	day := after.In(zone).AddDate(0, 0, -2)
	for range 400 {
		if at, ok := sunAt(day, place.Latitude, place.Longitude, s.Set); ok {
			if at = at.Add(s.Offset.AsDuration()); at.After(after) {
				return at
			}
		}
		day = day.AddDate(0, 0, 1)
	}
	return time.Time{}
}

// jitterOf is how much later a firing is: the same wherever it is worked out.
func jitterOf(target string, due time.Time, most time.Duration) time.Duration {
	if most < time.Millisecond {
		return 0
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", target, due.UnixMilli())
	// The lower bits of FNV mix badly for texts that differ at their ends only.
	part := float64(h.Sum64()*0x9E3779B97F4A7C15>>11) / float64(1<<53)
	return time.Duration(math.Floor(part*float64(most.Milliseconds()))) * time.Millisecond
}

// clockTime reads 07:00 or 07:00:30 as seconds since midnight; 24:00 is allowed.
func clockTime(text string) (int, error) {
	var h, m, s int
	var rest string
	n, err := fmt.Sscanf(text+":00", "%d:%d:%d%s", &h, &m, &s, &rest)
	if strings.Count(text, ":") == 2 {
		n, err = fmt.Sscanf(text, "%d:%d:%d", &h, &m, &s)
	} else if n == 3 {
		err = nil
	}
	if err != nil || n < 3 || len(text) < 4 || h < 0 || m < 0 || s < 0 || m > 59 || s > 59 || h > 24 || h == 24 && m+s > 0 {
		return 0, fmt.Errorf("%q is no time such as 07:00 or 22:30:15", text)
	}
	return h*3600 + m*60 + s, nil
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func weekday(text string) (time.Weekday, error) {
	for i, name := range dayNames {
		if strings.EqualFold(text, name) {
			return time.Weekday(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of %s", text, strings.Join(dayNames, ", "))
}
