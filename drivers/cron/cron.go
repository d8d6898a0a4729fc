// Package cron reads schedules in the five or six fields of cron, and says when they are due next.
//
// It keeps the time of the wall clock: what is due at 02:30 on the day when the clocks skip that hour is due once, an
// hour apart from that; on the day when they repeat it, it is due once. A schedule of every hour (its third field is *)
// goes on by elapsed time instead, and misses none.
package cron

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // so that a zone is known on every machine
)

// Schedule is a parsed schedule. It is immutable.
type Schedule struct {
	second, minute, hour, day, month, weekday uint64 // bits
	// anyDay, anyWeekday: the field begins with *, so that the other one decides. Where neither does, one of both is enough.
	anyDay, anyWeekday bool
	zone               *time.Location
}

// allHours is a third field that leaves none out.
const allHours = 1<<24 - 1

var (
	months   = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// field of a schedule: its bounds and what may be written for numbers, from the lowest on.
type field struct {
	name     string
	min, max int
	words    []string
}

var fields = []field{{"second", 0, 59, nil}, {"minute", 0, 59, nil}, {"hour", 0, 23, nil}, {"day", 1, 31, nil},
	{"month", 1, 12, months}, {"weekday", 0, 7, weekdays}}

// Parse reads "SEC MIN HOUR DAY MONTH WEEKDAY", or five fields without seconds. A field is *, a number, a range 1-5, a
// step */10 or 8-18/2, or a list of those; months and weekdays may be English words of three letters; 0 and 7 are
// Sunday. The zone is of the IANA database; empty means UTC.
func Parse(spec, zone string) (*Schedule, error) {
	parts := strings.Fields(spec)
	if len(parts) == 5 {
		parts = append([]string{"0"}, parts...)
	}
	if len(parts) != 6 {
		return nil, fmt.Errorf("cron %q: %d fields; there are 6: second minute hour day month weekday, or 5 without second", spec, len(parts))
	}
	where, err := Zone(zone)
	if err != nil {
		return nil, fmt.Errorf("cron zone: %w", err)
	}
	s := &Schedule{zone: where}
	for i, to := range []*uint64{&s.second, &s.minute, &s.hour, &s.day, &s.month, &s.weekday} {
		if *to, err = fields[i].parse(parts[i]); err != nil {
			return nil, fmt.Errorf("cron %q: %w", spec, err)
		}
	}
	s.weekday |= s.weekday >> 7 // 7 is 0
	s.anyDay, s.anyWeekday = parts[3][0] == '*', parts[5][0] == '*'
	if s.Next(time.Unix(0, 0)).IsZero() {
		return nil, fmt.Errorf("cron %q: there is no such day", spec)
	}
	return s, nil
}

func (f field) parse(text string) (uint64, error) {
	var bits uint64
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.Atoi(stepText)
			if err != nil || n < 1 || n > f.max {
				return 0, fmt.Errorf("%s %q: a step is 1 to %d", f.name, part, f.max)
			}
			step = n
		}
		from, to := f.min, f.max
		if span != "*" {
			low, high, ranged := strings.Cut(span, "-")
			var err error
			if from, err = f.number(low); err != nil {
				return 0, err
			}
			switch {
			case ranged:
				if to, err = f.number(high); err != nil {
					return 0, err
				}
			case !stepped:
				to = from
			}
			if to < from {
				return 0, fmt.Errorf("%s %q: the range goes backwards", f.name, part)
			}
		}
		for n := from; n <= to; n += step {
			bits |= 1 << n
		}
	}
	return bits, nil
}

func (f field) number(text string) (int, error) {
	for i, word := range f.words {
		if strings.EqualFold(word, text) {
			return i + f.min, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.min || n > f.max || text[0] == '+' || text[0] == '-' {
		return 0, fmt.Errorf("%s %q: not between %d and %d", f.name, text, f.min, f.max)
	}
	return n, nil
}

// Next is the first time after t when the schedule is due; zero where there is none in the next eight years.
func (s *Schedule) Next(t time.Time) time.Time {
	local := t.In(s.zone)
	_, offset := local.Zone()
	wall := local.Add(time.Duration(offset) * time.Second).UTC()
	if s.hour == allHours {
		next := s.nextWall(wall)
		if at := next.Add(-time.Duration(offset) * time.Second); !next.IsZero() && s.matches(at.In(s.zone)) {
			return at
		}
	}
	for range 4 {
		if wall = s.nextWall(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := OnClock(wall, s.zone); at.After(t) {
			return at.UTC()
		}
	}
	return time.Time{}
}

// OnClock is when the clocks of a zone show wall, whose own zone does not matter: the first time where they do so twice, an hour off
// where they never do.
func OnClock(wall time.Time, zone *time.Location) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	_, before := at.AddDate(0, 0, -1).Zone()
	utc := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, time.UTC)
	if first := utc.Add(-time.Duration(before) * time.Second).In(zone); first.Before(at) && first.Hour() == wall.Hour() {
		return first
	}
	return at
}

// Zone gives a zone of the IANA database; empty means UTC.
func Zone(name string) (*time.Location, error) {
	if name != "Local" && len(name) <= 64 {
		if where, err := time.LoadLocation(name); err == nil {
			return where, nil
		}
	}
	return nil, fmt.Errorf("%.70q is not a zone such as Europe/Berlin", name)
}

// nextWall is Next on a clock that never jumps; t is in UTC.
func (s *Schedule) nextWall(t time.Time) time.Time {
	t = t.Truncate(time.Second).Add(time.Second)
	for end := t.AddDate(8, 0, 1); t.Before(end); {
		switch {
		case s.month>>t.Month()&1 == 0:
			t = time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		case !s.onDay(t):
			t = time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, time.UTC)
		case s.hour>>t.Hour()&1 == 0:
			t = t.Truncate(time.Hour).Add(time.Hour)
		case s.minute>>t.Minute()&1 == 0:
			t = t.Truncate(time.Minute).Add(time.Minute)
		case s.second>>t.Second()&1 == 0:
			t = t.Add(time.Second)
		default:
			return t
		}
	}
	return time.Time{}
}

func (s *Schedule) onDay(t time.Time) bool {
	day, weekday := s.day>>t.Day()&1 == 1, s.weekday>>t.Weekday()&1 == 1
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

func (s *Schedule) matches(t time.Time) bool {
	return s.month>>t.Month()&1 == 1 && s.onDay(t) && s.hour>>t.Hour()&1 == 1 && s.minute>>t.Minute()&1 == 1 &&
		s.second>>t.Second()&1 == 1
}
