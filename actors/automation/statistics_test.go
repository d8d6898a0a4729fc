package automation_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// minute gives a time in minutes after the begin of a day.
func minute(n int) time.Time { return time.Date(2026, 3, 1, 0, n, 0, 0, time.UTC) }

func tell(s *automation.Spells, what, name string, at int, data string) {
	s.Tell(&storage.JournalEntry{Project: "p", Kind: automation.JournalAlarm, Name: name, Time: minute(at).UnixMilli(),
		Data: fmt.Appendf(nil, `{"what":%q,"severity":"error","twin":"p/%s","by":"rule/p/r",%s}`, what, name, data)})
}

func raised(n, number int) string {
	return fmt.Sprintf(`"number":%d,"raised":%d`, number, minute(n).UnixMilli())
}

// Spells are put together from what the journal tells and what records say; each entry is enough for what was before it.
func TestAlarmFigures(t *testing.T) {
	var s automation.Spells
	// The record of an alarm that is active: raised at 50.
	s.Add(&pb.Alarm{Id: "p/a", Active: true, Raised: 2, Severity: pb.AlarmSeverity_ALARM_SEVERITY_CRITICAL, Twin: "p/a", By: "rule/p/r", RaiseTime: timestamppb.New(minute(50))})
	tell(&s, "raised", "a", 50, raised(50, 2))
	tell(&s, "cleared", "a", 40, raised(10, 1)+fmt.Sprintf(`,"acknowledged":%d,"acknowledged_by":"kim"`, minute(15).UnixMilli()))
	tell(&s, "acknowledged", "a", 15, raised(10, 1)+fmt.Sprintf(`,"acknowledged":%d,"acknowledged_by":"kim"`, minute(15).UnixMilli()))
	tell(&s, "raised", "a", 10, raised(10, 1))
	tell(&s, "cleared", "b", 30, raised(-60, 1)) // raised before the span, and no more is told of it
	tell(&s, "cleared", "old", -20, raised(-30, 1))
	s.Tell(&storage.JournalEntry{Project: "p", Kind: "quota", Name: "twins", Time: minute(20).UnixMilli(), Data: []byte(`{"state":"reached"}`)})
	s.Tell(&storage.JournalEntry{Project: "p", Kind: automation.JournalAlarm, Name: "x", Time: minute(20).UnixMilli(), Data: []byte(`[`)})

	all := s.Within(minute(0), minute(60), func(*pb.AlarmSpell) bool { return true })
	var names []string
	for _, x := range all {
		names = append(names, fmt.Sprintf("%s at %s", x.Alarm, x.RaiseTime.AsTime().Format("15:04")))
	}
	if got := fmt.Sprint(names); got != "[p/a at 00:50 p/a at 00:10 p/b at 23:00]" {
		t.Fatalf("spells: %s", got)
	}
	total, groups := automation.Figures(all, minute(0), minute(60), pb.AlarmGroup_ALARM_GROUP_TWIN)
	if total.Raised != 2 || total.Acknowledged != 1 || total.Cleared != 2 || total.Open != 1 || total.Unacknowledged != 1 || total.MeanAcknowledge.AsDuration() != 5*time.Minute ||
		total.MeanClear.AsDuration() != time.Hour || total.Longest.AsDuration() != 90*time.Minute || total.LongestSpell.Alarm != "p/b" {
		t.Errorf("all: %v", total)
	}
	if len(groups) != 2 || groups[0].Group != "p/a" || groups[0].Raised != 2 || groups[0].MeanClear.AsDuration() != 30*time.Minute || groups[1].Group != "p/b" || groups[1].Raised != 0 {
		t.Errorf("groups: %v", groups)
	}
	// As it was at 20 minutes: a was acknowledged, and nothing had cleared.
	then, _ := automation.Figures(s.Within(minute(0), minute(20), func(*pb.AlarmSpell) bool { return true }), minute(0), minute(20), 0)
	if then.Open != 2 || then.Unacknowledged != 1 || then.Cleared != 0 || then.Longest.AsDuration() != 80*time.Minute {
		t.Errorf("at 20 minutes: %v", then)
	}
	bars, err := automation.Bars(all, minute(0), minute(60), 20*time.Minute, time.UTC)
	if err != nil || len(bars) != 3 || bars[0].Raised["error"] != 1 || bars[2].Raised["critical"] != 1 || len(bars[1].Raised) != 0 {
		t.Errorf("bars: %v, %v", bars, err)
	}
	if _, err := automation.Bars(all, minute(0), minute(60*24*365), time.Hour, time.UTC); err == nil {
		t.Error("a bar for each hour of a year is not refused")
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	days, err := automation.Bars(nil, time.Date(2026, 3, 28, 12, 0, 0, 0, berlin), time.Date(2026, 3, 31, 12, 0, 0, 0, berlin), 24*time.Hour, berlin)
	if err != nil || len(days) != 4 || days[2].Start.AsTime().Sub(days[1].Start.AsTime()) != 23*time.Hour {
		t.Errorf("the day on which clocks are set ahead has 23 h: %v, %v", days, err)
	}
}
