package automation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// calendar is a pb.Calendar, read.
type calendar struct {
	zone   *time.Location
	times  []int // seconds since midnight, sorted
	days   []int32
	months [13]bool
	// weekdays: 0: any week of the month.
	weekdays []nthWeekday
	dates    []dateSpan
	except   []dateSpan
	anyMonth bool
}

type nthWeekday struct {
	nth int
	day time.Weekday
}

// dateSpan is from a day to a day; year 0: each year.
type dateSpan struct{ from, to dateOf }

type dateOf struct{ year, month, day int }

// calendarYears is how far a calendar is looked ahead: the 29th of February on a Monday comes within 40 years, most of all else in one.
const calendarYears = 40

func newCalendar(m *pb.Calendar, zone *time.Location) (*calendar, error) {
	c := &calendar{zone: zone, days: m.Days, anyMonth: len(m.Months) == 0}
	if len(m.Times) == 0 {
		return nil, wrong("/calendar/times", "name one, such as 07:00")
	}
	for i, text := range m.Times {
		at, err := clockTime(text)
		if err != nil || at == 24*3600 {
			return nil, wrong(fmt.Sprintf("/calendar/times/%d", i), "%q is no time such as 07:00 or 22:30:15", text)
		}
		c.times = append(c.times, at)
	}
	slices.Sort(c.times)
	c.times = slices.Compact(c.times)
	for i, text := range m.Weekdays {
		d, err := readWeekday(text)
		if err != nil {
			return nil, wrong(fmt.Sprintf("/calendar/weekdays/%d", i), "%v", err)
		}
		c.weekdays = append(c.weekdays, d)
	}
	for i, d := range m.Days {
		if d == 0 || d > 31 || d < -31 {
			return nil, wrong(fmt.Sprintf("/calendar/days/%d", i), "%d is none of 1 to 31, -1 to -31", d)
		}
	}
	for i, n := range m.Months {
		if n < 1 || n > 12 {
			return nil, wrong(fmt.Sprintf("/calendar/months/%d", i), "%d is none of 1 to 12", n)
		}
		c.months[n] = true
	}
	var err error
	if c.dates, err = readDates("/calendar/dates", m.Dates); err != nil {
		return nil, err
	}
	if c.except, err = readDates("/calendar/except", m.Except); err != nil {
		return nil, err
	}
	if len(m.Dates) == 0 && c.next(time.Unix(0, 0)).IsZero() {
		return nil, wrong("/calendar", "there is no such day")
	}
	return c, nil
}

func readWeekday(text string) (d nthWeekday, err error) {
	if nth, name, ok := strings.Cut(text, ":"); ok {
		text = name
		if d.nth, err = strconv.Atoi(nth); err != nil || d.nth == 0 || d.nth > 5 || d.nth < -5 {
			return d, fmt.Errorf("%q is none of 1 to 5, -1 to -5", nth)
		}
	}
	d.day, err = weekday(text)
	return d, err
}

func readDates(path string, all []string) (out []dateSpan, err error) {
	for i, text := range all {
		from, to, span := strings.Cut(text, "..")
		if !span {
			to = from
		}
		var s dateSpan
		if s.from, err = readDate(from); err == nil {
			s.to, err = readDate(to)
		}
		if err == nil && (s.from.year == 0) != (s.to.year == 0) {
			err = fmt.Errorf("%q: one of both has no year", text)
		}
		if err == nil && s.from.year != 0 && s.to.before(s.from) {
			err = fmt.Errorf("%q: it goes backwards", text)
		}
		if err != nil {
			return nil, wrong(fmt.Sprintf("%s/%d", path, i), "%v", err)
		}
		out = append(out, s)
	}
	return out, nil
}

func readDate(text string) (dateOf, error) {
	if t, err := time.Parse("2006-01-02", text); err == nil {
		return dateOf{t.Year(), int(t.Month()), t.Day()}, nil
	}
	if t, err := time.Parse("2006-01-02", "2024-"+text); err == nil { // a leap year
		return dateOf{0, int(t.Month()), t.Day()}, nil
	}
	return dateOf{}, fmt.Errorf("%q is no day such as 2026-12-24 or 12-24", text)
}

func (d dateOf) before(o dateOf) bool {
	return d.year != o.year && d.year < o.year || d.year == o.year && (d.month < o.month || d.month == o.month && d.day < o.day)
}

func (s *dateSpan) has(t time.Time) bool {
	d := dateOf{t.Year(), int(t.Month()), t.Day()}
	if s.from.year == 0 {
		d.year = 0
		if s.to.before(s.from) { // across the new year
			return !d.before(s.from) || !s.to.before(d)
		}
	}
	return !d.before(s.from) && !s.to.before(d)
}

func spansHave(all []dateSpan, t time.Time) bool {
	return slices.ContainsFunc(all, func(s dateSpan) bool { return s.has(t) })
}

// onDay says whether a day counts; only its date is looked at.
func (c *calendar) onDay(t time.Time) bool {
	if spansHave(c.except, t) {
		return false
	}
	if len(c.dates) > 0 {
		return spansHave(c.dates, t)
	}
	if !c.anyMonth && !c.months[t.Month()] {
		return false
	}
	last := time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
	if len(c.days) > 0 && !slices.ContainsFunc(c.days, func(d int32) bool {
		return int(d) == t.Day() || d < 0 && last+1+int(d) == t.Day()
	}) {
		return false
	}
	return len(c.weekdays) == 0 || slices.ContainsFunc(c.weekdays, func(w nthWeekday) bool {
		switch {
		case w.day != t.Weekday():
			return false
		case w.nth > 0:
			return (t.Day()-1)/7+1 == w.nth
		case w.nth < 0:
			return -((last-t.Day())/7 + 1) == w.nth
		}
		return true
	})
}

func (c *calendar) next(after time.Time) time.Time {
	local := after.In(c.zone)
	day := time.Date(local.Year(), local.Month(), local.Day()-1, 0, 0, 0, 0, time.UTC)
	for end := day.AddDate(calendarYears, 0, 0); day.Before(end); day = day.AddDate(0, 0, 1) {
		if !c.onDay(day) {
			continue
		}
		var first time.Time
		for _, s := range c.times {
			if at := cron.OnClock(day.Add(time.Duration(s)*time.Second), c.zone); at.After(after) && (first.IsZero() || at.Before(first)) {
				first = at
			}
		}
		if !first.IsZero() {
			return first.UTC()
		}
	}
	return time.Time{}
}
