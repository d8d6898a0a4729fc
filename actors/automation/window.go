package automation

import (
	"fmt"
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// window is a time of validity, from a time of the day to another one, on days of the week.
type window struct {
	from, to            int // seconds since midnight; to is above a day where the window goes across midnight
	days                [7]bool
	notBefore, notAfter time.Time
	zone                *time.Location
}

func newWindows(all []*pb.Window, zone *time.Location) ([]window, error) {
	var out []window
	for i, m := range all {
		w := window{to: 24 * 3600, zone: zone}
		var err error
		for _, x := range []struct {
			name, text string
			to         *int
		}{{"from", m.From, &w.from}, {"to", m.To, &w.to}} {
			if x.text == "" {
				continue
			}
			if *x.to, err = clockTime(x.text); err != nil {
				return nil, wrong(fmt.Sprintf("/windows/%d/%s", i, x.name), "%v", err)
			}
		}
		if w.to <= w.from {
			w.to += 24 * 3600
		}
		for n, text := range m.Weekdays {
			d, err := weekday(text)
			if err != nil {
				return nil, wrong(fmt.Sprintf("/windows/%d/weekdays/%d", i, n), "%v", err)
			}
			w.days[d] = true
		}
		if len(m.Weekdays) == 0 {
			w.days = [7]bool{true, true, true, true, true, true, true}
		}
		if m.NotBefore != nil {
			w.notBefore = m.NotBefore.AsTime()
		}
		if m.NotAfter != nil {
			w.notAfter = m.NotAfter.AsTime()
		}
		if !w.notAfter.IsZero() && w.notAfter.Before(w.notBefore) {
			return nil, wrong(fmt.Sprintf("/windows/%d/not_after", i), "it is before not_before")
		}
		out = append(out, w)
	}
	return out, nil
}

// span is the window that begins on a day; day has the zone.
func (w *window) span(day time.Time) (from, to time.Time, ok bool) {
	if !w.days[day.Weekday()] {
		return from, to, false
	}
	at := func(seconds int) time.Time {
		wall := time.Date(day.Year(), day.Month(), day.Day()+seconds/86400, 0, 0, seconds%86400, 0, time.UTC)
		return cron.OnClock(wall, w.zone)
	}
	return at(w.from), at(w.to), true
}

func (w *window) has(t time.Time) bool {
	if t.Before(w.notBefore) || !w.notAfter.IsZero() && t.After(w.notAfter) {
		return false
	}
	today := t.In(w.zone)
	for _, day := range []time.Time{today.AddDate(0, 0, -1), today} {
		if from, to, ok := w.span(day); ok && !t.Before(from) && t.Before(to) {
			return true
		}
	}
	return false
}

// within says whether a time is in one of the windows; without any it always is.
func within(all []window, t time.Time) bool {
	for i := range all {
		if all[i].has(t) {
			return true
		}
	}
	return len(all) == 0
}

// opening is the first time after t at which one of the windows begins; zero where none does.
func opening(all []window, t time.Time) time.Time {
	var first time.Time
	for i := range all {
		w := &all[i]
		day := t
		if w.notBefore.After(t) {
			if w.has(w.notBefore) && (first.IsZero() || w.notBefore.Before(first)) {
				first = w.notBefore
			}
			day = w.notBefore
		}
		day = day.In(w.zone)
		for n := range 9 {
			from, _, ok := w.span(day.AddDate(0, 0, n))
			if ok && from.After(t) && w.has(from) {
				if first.IsZero() || from.Before(first) {
					first = from
				}
				break
			}
		}
	}
	return first
}
