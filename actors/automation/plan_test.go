package automation_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// schedule reads timing and windows from JSON.
func schedule(t *testing.T, text string) *pb.Schedule {
	t.Helper()
	m := &pb.Schedule{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

// due gives the firings after a time, as the clocks of the timing's zone show them.
func due(t *testing.T, text, from string, n int) []string {
	t.Helper()
	m := schedule(t, text)
	p, err := automation.NewPlan(m.Timing, m.Windows, nil)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	at, err := time.Parse(time.RFC3339, from)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation(m.Timing.Zone)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for range n {
		if at = p.Next(at); at.IsZero() {
			break
		}
		all = append(all, at.In(zone).Format("Mon 2006-01-02 15:04:05 MST"))
	}
	return all
}

func TestPlans(t *testing.T) {
	for _, c := range []struct{ name, text, from, want string }{
		{"once", `{"timing":{"at":"2026-05-01T10:00:00Z"}}`, "2026-04-01T00:00:00Z", "Fri 2026-05-01 10:00:00 UTC"},
		{"once, over", `{"timing":{"at":"2026-05-01T10:00:00Z"}}`, "2026-05-01T10:00:00Z", ""},
		{"every", `{"timing":{"every":{"period":"90s","from":"2026-01-01T00:00:10Z"}}}`, "2026-01-01T00:00:10Z",
			"Thu 2026-01-01 00:01:40 UTC|Thu 2026-01-01 00:03:10 UTC"},
		{"every, before its anchor", `{"timing":{"every":{"period":"90s","from":"2026-01-01T00:00:10Z"}}}`, "2025-01-01T00:00:00Z", "Thu 2026-01-01 00:00:10 UTC"},
		{"cron with seconds", `{"timing":{"cron":"30 0 7 * * mon-fri","zone":"Europe/Berlin"}}`, "2026-01-02T12:00:00Z",
			"Mon 2026-01-05 07:00:30 CET|Tue 2026-01-06 07:00:30 CET"},
		// The clocks skip 02:00 to 03:00, and repeat it: due once in both nights.
		{"a time that is skipped", `{"timing":{"calendar":{"times":["02:30"]},"zone":"Europe/Berlin"}}`, "2026-03-28T12:00:00Z",
			"Sun 2026-03-29 03:30:00 CEST|Mon 2026-03-30 02:30:00 CEST"},
		{"a time that is repeated", `{"timing":{"calendar":{"times":["02:30"]},"zone":"Europe/Berlin"}}`, "2026-10-24T12:00:00Z",
			"Sun 2026-10-25 02:30:00 CEST|Mon 2026-10-26 02:30:00 CET"},
		{"weekdays", `{"timing":{"calendar":{"times":["08:00","17:30"],"weekdays":["mon","fri"]},"zone":"America/New_York"}}`, "2026-11-20T22:00:00Z",
			"Fri 2026-11-20 17:30:00 EST|Mon 2026-11-23 08:00:00 EST|Mon 2026-11-23 17:30:00 EST"},
		{"the first Monday and the last Friday", `{"timing":{"calendar":{"times":["09:00"],"weekdays":["1:mon","-1:fri"]}}}`, "2026-05-01T00:00:00Z",
			"Mon 2026-05-04 09:00:00 UTC|Fri 2026-05-29 09:00:00 UTC|Mon 2026-06-01 09:00:00 UTC|Fri 2026-06-26 09:00:00 UTC"},
		{"the last day of a month", `{"timing":{"calendar":{"times":["23:59:59"],"days":[-1]}}}`, "2028-02-01T00:00:00Z",
			"Tue 2028-02-29 23:59:59 UTC|Fri 2028-03-31 23:59:59 UTC"},
		{"the 31st of some months", `{"timing":{"calendar":{"times":["12:00"],"days":[31],"months":[1,2,3]}}}`, "2026-01-31T12:00:00Z", "Tue 2026-03-31 12:00:00 UTC"},
		{"dates", `{"timing":{"calendar":{"times":["18:00"],"dates":["12-24","2026-12-31"]}}}`, "2026-12-01T00:00:00Z",
			"Thu 2026-12-24 18:00:00 UTC|Thu 2026-12-31 18:00:00 UTC|Fri 2027-12-24 18:00:00 UTC"},
		{"exceptions across the new year", `{"timing":{"calendar":{"times":["06:00"],"except":["12-24..01-01","2027-01-03"]}}}`, "2026-12-22T12:00:00Z",
			"Wed 2026-12-23 06:00:00 UTC|Sat 2027-01-02 06:00:00 UTC|Mon 2027-01-04 06:00:00 UTC"},
		{"a window across midnight", `{"timing":{"every":{"period":"3600s"},"zone":"Europe/Berlin"},"windows":[{"from":"22:30","to":"01:30","weekdays":["fri"]}]}`,
			"2026-05-01T12:00:00Z", "Fri 2026-05-01 23:00:00 CEST|Sat 2026-05-02 00:00:00 CEST|Sat 2026-05-02 01:00:00 CEST|Fri 2026-05-08 23:00:00 CEST"},
		{"a window that ends for good", `{"timing":{"cron":"0 12 * * *"},"windows":[{"not_before":"2026-05-03T00:00:00Z","not_after":"2026-05-04T23:00:00Z"}]}`,
			"2026-05-01T00:00:00Z", "Sun 2026-05-03 12:00:00 UTC|Mon 2026-05-04 12:00:00 UTC"},
	} {
		n := strings.Count(c.want, "|") + 1
		if strings.HasSuffix(c.name, "over") || strings.HasSuffix(c.name, "for good") {
			n++
		}
		if got := strings.Join(due(t, c.text, c.from, n), "|"); got != c.want {
			t.Errorf("%s: %s\n  got  %s\n  want %s", c.name, c.text, got, c.want)
		}
	}
}

// Sunrise and sunset, beside those that the U.S. Naval Observatory's tables give to the minute.
func TestSun(t *testing.T) {
	for _, c := range []struct {
		name, place, zone, day string
		rise, set              string
	}{
		{"Berlin, midsummer", `"latitude":52.52,"longitude":13.405`, "Europe/Berlin", "2026-06-21", "04:43", "21:33"},
		{"Berlin, midwinter", `"latitude":52.52,"longitude":13.405`, "Europe/Berlin", "2026-12-21", "08:15", "15:54"},
		{"Quito", `"latitude":-0.18,"longitude":-78.47`, "America/Guayaquil", "2026-03-20", "06:18", "18:24"},
		{"Sydney", `"latitude":-33.87,"longitude":151.21`, "Australia/Sydney", "2026-12-21", "05:41", "20:05"},
		{"Honolulu", `"latitude":21.31,"longitude":-157.86`, "Pacific/Honolulu", "2026-06-21", "05:50", "19:16"},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		midnight, _ := time.ParseInLocation("2006-01-02", c.day, zone)
		for _, x := range []struct{ set, want string }{{"false", c.rise}, {"true", c.set}} {
			got := due(t, `{"timing":{"zone":"`+c.zone+`","sun":{"set":`+x.set+`,"place":{`+c.place+`}}}}`, midnight.UTC().Format(time.RFC3339), 1)
			want, _ := time.ParseInLocation("2006-01-02 15:04", c.day+" "+x.want, zone)
			at, err := time.ParseInLocation("Mon 2006-01-02 15:04:05 MST", strings.Join(got, ""), zone)
			if d := at.Sub(want); err != nil || d < -3*time.Minute || d > 3*time.Minute {
				t.Errorf("%s, set %s: %v, want %s", c.name, x.set, got, x.want)
			}
		}
	}
	// Half an hour before sunset; and where the sun does not set for two months the next one comes after that.
	before := due(t, `{"timing":{"zone":"Europe/Berlin","sun":{"set":true,"offset":"-1800s","place":{"latitude":52.52,"longitude":13.405}}}}`, "2026-06-21T12:00:00Z", 1)
	if len(before) != 1 || !strings.HasPrefix(before[0], "Sun 2026-06-21 21:0") {
		t.Errorf("half an hour before sunset: %v", before)
	}
	polar := due(t, `{"timing":{"zone":"Europe/Oslo","sun":{"set":true,"place":{"latitude":69.65,"longitude":18.96}}}}`, "2026-06-01T12:00:00Z", 1)
	if len(polar) != 1 || !strings.Contains(polar[0], "2026-07-2") {
		t.Errorf("Tromsø, the first sunset after the first of June: %v", polar)
	}
}

func TestWrongTimings(t *testing.T) {
	for _, c := range []struct{ text, path, want string }{
		{`{"timing":{"cron":"0 25 * * *"}}`, "/cron", `hour "25"`},
		{`{"timing":{"cron":"* * * * *","zone":"Mars/Base"}}`, "/zone", "Europe/Berlin"},
		{`{"timing":{"calendar":{}}}`, "/calendar/times", "name one"},
		{`{"timing":{"calendar":{"times":["7 o'clock"]}}}`, "/calendar/times/0", "22:30:15"},
		{`{"timing":{"calendar":{"times":["24:00"]}}}`, "/calendar/times/0", "24:00"},
		{`{"timing":{"calendar":{"times":["07:00"],"weekdays":["moon"]}}}`, "/calendar/weekdays/0", "moon"},
		{`{"timing":{"calendar":{"times":["07:00"],"days":[30],"months":[2]}}}`, "/calendar", "no such day"},
		{`{"timing":{"calendar":{"times":["07:00"],"except":["12-33"]}}}`, "/calendar/except/0", "12-33"},
		{`{"timing":{"sun":{}}}`, "/sun", "a place"},
		{`{"timing":{"every":{"period":"0.01s"}}}`, "/every/period", "100ms"},
		{`{"timing":{"cron":"* * * * *"},"windows":[{"from":"25:00"}]}`, "/windows/0/from", "25:00"},
		{`{}`, "", "name one of"},
	} {
		m := schedule(t, c.text)
		_, err := automation.NewPlan(m.Timing, m.Windows, nil)
		var f *automation.FieldError
		if !errors.As(err, &f) || f.Path != c.path || !strings.Contains(f.Reason, c.want) {
			t.Errorf("%s: %v, want %s: … %s", c.text, err, c.path, c.want)
		}
	}
}

func FuzzCalendar(f *testing.F) {
	f.Add("07:00", "1:mon", int32(-1), "12-24..01-01", int64(1_760_000_000))
	f.Fuzz(func(t *testing.T, at, weekday string, day int32, except string, unix int64) {
		p, err := automation.NewPlan(&pb.Timing{Zone: "Europe/Berlin", When: &pb.Timing_Calendar{Calendar: &pb.Calendar{Times: []string{at},
			Weekdays: []string{weekday}, Days: []int32{day}, Except: []string{except}}}}, nil, nil)
		if err != nil || unix < 0 || unix > 1<<33 {
			return
		}
		from := time.Unix(unix, 0)
		if next := p.Next(from); !next.IsZero() && !next.After(from) {
			t.Errorf("after %s: %s", from, next)
		}
	})
}
