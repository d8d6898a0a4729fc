package automation

import (
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Windows are times of the week, for those who want to know whether a time is in one of them. They do not change.
type Windows struct{ all []window }

// NewWindows makes windows in a zone, whose name is IANA's; empty: UTC. An error is a *FieldError.
func NewWindows(all []*pb.Window, zone string) (Windows, error) {
	at, err := cron.Zone(zone)
	if err != nil {
		return Windows{}, wrong("/zone", "%v", err)
	}
	w, err := newWindows(all, at)
	return Windows{w}, err
}

// Until gives the end of the windows that a time is in, one after the other; the zero time: it is in none. What has no end within a
// year ends then.
func (w Windows) Until(t time.Time) (end time.Time) {
	most := t.AddDate(1, 0, 0)
	for at := t; at.Before(most); at = end {
		next := at
		for i := range w.all {
			if e := w.all[i].until(at); e.After(next) {
				next = e
			}
		}
		if !next.After(at) {
			return end
		}
		end = next
	}
	return end
}

// until is the end of the window where the time is in it, or zero.
func (w *window) until(t time.Time) (end time.Time) {
	if !w.has(t) {
		return end
	}
	today := t.In(w.zone)
	for _, day := range []time.Time{today.AddDate(0, 0, -1), today} {
		if from, to, ok := w.span(day); ok && !t.Before(from) && t.Before(to) && to.After(end) {
			end = to
		}
	}
	if !w.notAfter.IsZero() && w.notAfter.Before(end) {
		end = w.notAfter.Add(time.Nanosecond)
	}
	return end
}
