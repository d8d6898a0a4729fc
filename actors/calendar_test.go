package actors_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// firings gives a schedule's part of a calendar in short words, as its own clocks show it.
func (n *node) firings(m *pb.Schedule, now, start, end string, perDay int) string {
	n.t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		n.t.Fatal(err)
	}
	q := automation.FiringsQuery{Zone: berlin, PerDay: perDay}
	for i, to := range []*time.Time{&q.Now, &q.Start, &q.End} {
		if *to, err = time.Parse(time.RFC3339, []string{now, start, end}[i]); err != nil {
			n.t.Fatal(err)
		}
	}
	all, err := n.client.Automation().Firings(m, q)
	if err != nil {
		n.t.Fatal(err)
	}
	var words []string
	for _, f := range all {
		text := f.Time.AsTime().In(berlin).Format("02 15:04") + " " + strings.ToLower(strings.TrimPrefix(f.State.String(), "FIRING_STATE_"))
		if f.Shifted {
			text += " (" + f.Note + ")"
		}
		if f.More {
			text += " and more"
		}
		words = append(words, text)
	}
	return strings.Join(words, ", ")
}

// A calendar has what is to come with exceptions and the nights when clocks are set, and what was done.
func TestCalendarOfASchedule(t *testing.T) {
	n, c := clocked(t, "2026-03-01T06:59:00Z")
	put := func(id, timing string) *pb.Schedule {
		return n.schedule(fmt.Sprintf(`{"id":%q,"timing":%s,"actions":[{"mqtt":{"topic":"fired","payload":"x"}}]}`, id, timing))
	}
	for _, x := range []struct{ id, timing, start, end, want string }{
		{"except", `{"calendar":{"times":["06:00"],"except":["03-11..03-12"]},"zone":"Europe/Berlin"}`, "2026-03-10T00:00:00Z", "2026-03-13T12:00:00Z",
			"10 06:00 planned, 11 06:00 left_out, 12 06:00 left_out, 13 06:00 planned"},
		{"spring", `{"calendar":{"times":["02:30"]},"zone":"Europe/Berlin"}`, "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z",
			"28 02:30 planned, 29 03:30 planned (the clocks skip 02:30), 30 02:30 planned"},
		{"spring, as it is", `{"calendar":{"times":["03:30"]},"zone":"Europe/Berlin"}`, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", "29 03:30 planned"},
		{"autumn", `{"cron":"30 2 * * *","zone":"Europe/Berlin"}`, "2026-10-25T00:00:00Z", "2026-10-26T12:00:00Z",
			"25 02:30 planned (02:30 comes twice: it is due the first time), 26 02:30 planned"},
		{"each hour", `{"cron":"0 0-4 * * *","zone":"Europe/Berlin"}`, "2026-10-25T00:00:00Z", "2026-10-25T02:30:00Z",
			"25 02:00 planned (02:00 comes twice: it is due the first time), 25 03:00 planned"},
		{"often", `{"every":{"period":"60s"}}`, "2026-03-10T12:00:00Z", "2026-03-12T12:00:00Z",
			"10 13:00 planned, 10 13:01 planned and more, 11 00:00 planned, 11 00:01 planned and more, 12 00:00 planned, 12 00:01 planned and more"},
		{"over", `{"at":"2026-05-01T10:00:00Z"}`, "2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z", ""},
	} {
		m := &pb.Schedule{Id: "default/x", Timing: &pb.Timing{}}
		if err := protojson.Unmarshal([]byte(x.timing), m.Timing); err != nil {
			t.Fatal(err)
		}
		if got := n.firings(m, "2026-03-01T06:59:00Z", x.start, x.end, 2); got != x.want {
			t.Errorf("%s:\n%s, want\n%s", x.id, got, x.want)
		}
	}
	m := put("daily", `{"cron":"0 7 * * *"}`)
	c.to(t, "2026-03-01T07:00:00Z", n)
	until(t, "it is done", func() bool {
		n.engine.Tick()
		return n.firings(m, "2026-03-01T07:00:30Z", "2026-03-01T00:00:00Z", "2026-03-03T00:00:00Z", 5) == "01 08:00 done, 02 08:00 planned"
	})
}

// What happens to an alarm is in the journal, with all that is to be known of its spell, and committed with it.
func TestAlarmIsInTheJournal(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a")
	if _, err := n.reg.RaiseAlarm(ctx(t), &pb.RaiseAlarmRequest{Id: "leak", Text: "water", Twin: "a", Severity: pb.AlarmSeverity_ALARM_SEVERITY_ERROR}, "kim"); err != nil {
		t.Fatal(err)
	}
	c.to(t, "2026-03-01T07:05:00Z", n)
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "leak", Change: &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true}}, "lee")
	if _, err := n.reg.RaiseAlarm(ctx(t), &pb.RaiseAlarmRequest{Id: "leak", Text: "more water", Twin: "a"}, "kim"); err != nil { // said again: no coming
		t.Fatal(err)
	}
	c.to(t, "2026-03-01T07:30:00Z", n)
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "leak", Change: &pb.ChangeAlarmRequest_Clear{Clear: true}, Note: "dry"}, "lee")
	var entries []storage.JournalEntry
	if _, err := n.store.ReadJournal(0, func(_ uint64, all []storage.JournalEntry) error {
		for _, e := range all {
			if e.Kind == automation.JournalAlarm {
				e.Data = slices.Clone(e.Data)
				entries = append(entries, e)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var s automation.Spells
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].Twin != "" || entries[i].Name != "leak" {
			t.Errorf("entry: %+v", entries[i])
		}
		s.Tell(&entries[i])
	}
	if len(entries) != 3 {
		t.Errorf("%d entries, want raised, acknowledged, cleared", len(entries))
	}
	all := s.Within(c.Now().Add(-time.Hour), c.Now().Add(time.Hour), func(x *pb.AlarmSpell) bool {
		return n.reg.AlarmMeant(&pb.AlarmFilter{Project: "default", Twin: "a", Severity: pb.AlarmSeverity_ALARM_SEVERITY_WARNING}, x)
	})
	if len(all) != 1 || all[0].AcknowledgedBy != "lee" || all[0].ClearTime.AsTime().Sub(all[0].RaiseTime.AsTime()) != 30*time.Minute || all[0].Text != "more water" || all[0].By != "kim" {
		t.Errorf("spells: %v", all)
	}
}
