package cron_test

import (
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
)

func TestNext(t *testing.T) {
	cases := []struct{ spec, zone, from, want string }{
		{"* * * * *", "", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"},
		{"*/10 * * * * *", "", "2026-01-01T00:00:30Z", "2026-01-01T00:00:40Z"},
		{"0 7 * * mon-fri", "Europe/Berlin", "2026-01-02T12:00:00Z", "2026-01-05T06:00:00Z"},
		{"0 7 * * mon-fri", "Europe/Berlin", "2026-07-03T12:00:00Z", "2026-07-06T05:00:00Z"},
		{"30 5,17-18 1 */3 *", "", "2026-01-01T05:30:00Z", "2026-01-01T17:30:00Z"},
		{"30 5,17-18 1 */3 *", "", "2026-01-01T18:30:00Z", "2026-04-01T05:30:00Z"},
		{"0 0 13 * 5", "", "2026-02-01T00:00:00Z", "2026-02-06T00:00:00Z"}, // the 13th or a Friday
		{"0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 0 * * 7", "", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"},
		{"0 0 * dec sun", "", "2026-01-01T00:00:00Z", "2026-12-06T00:00:00Z"},
		// The clocks skip from 02:00 to 03:00: due once, near it.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},
		{"*/20 * * * *", "Europe/Berlin", "2026-03-29T00:50:00Z", "2026-03-29T01:00:00Z"},
		// They repeat 02:00 to 03:00: due once; every minute goes on through both hours.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
		{"*/20 * * * *", "Europe/Berlin", "2026-10-25T00:40:00Z", "2026-10-25T01:00:00Z"},
		{"*/20 * * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-25T01:20:00Z"},
		{"0 * * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T00:30:00Z"},
	}
	for _, c := range cases {
		s, err := cron.Parse(c.spec, c.zone)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		from, _ := time.Parse(time.RFC3339, c.from)
		if got := s.Next(from).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%q in %q after %s: %s, want %s", c.spec, c.zone, c.from, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ spec, zone, want string }{
		{"* * *", "", "3 fields"}, {"60 * * * *", "", `minute "60": not between 0 and 59`}, {"* * 0 * *", "", "day"},
		{"*/0 * * * *", "", "a step is 1 to 59"}, {"5-1 * * * *", "", "backwards"}, {"* * * foo *", "", `month "foo"`},
		{"* * * * *", "Mars/Base", "is not a zone"}, {"* * * * *", "Local", "is not a zone"}, {"0 0 30 2 *", "", "no such day"},
		{"", "", "0 fields"}, {"1,, * * * *", "", `minute ""`},
	} {
		if _, err := cron.Parse(c.spec, c.zone); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q in %q: %v, want %q", c.spec, c.zone, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("*/10 1-5 8,9 * mon-fri 0", int64(1_760_000_000))
	f.Fuzz(func(t *testing.T, spec string, unix int64) {
		s, err := cron.Parse(spec, "Europe/Berlin")
		if err != nil || unix < 0 || unix > 1<<33 {
			return
		}
		from := time.Unix(unix, 0)
		if next := s.Next(from); !next.After(from) {
			t.Errorf("%q after %s: %s", spec, from, next)
		}
	})
}
