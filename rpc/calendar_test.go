package rpc_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestListFirings: what a calendar shows comes by pages, and says of which zones clocks are set.
func TestListFirings(t *testing.T) {
	h, p := openHouse(t), fresh("calendar")
	api := rpcv1.NewAutomationServiceClient(h.http(h.admin), h.url)
	for id, timing := range map[string]*pb.Timing{
		"a": {When: &pb.Timing_Calendar{Calendar: &pb.Calendar{Times: []string{"02:30"}, Except: []string{"2099-03-30"}}}, Zone: "Europe/Berlin"},
		"b": {When: &pb.Timing_Every{Every: &pb.Every{Period: durationpb.New(time.Minute)}}},
		"c": {When: &pb.Timing_Sun{Sun: &pb.Sun{TwinId: "nobody"}}},
	} {
		s := &pb.Schedule{Id: p + "/" + id, Timing: timing, Actions: []*pb.Action{{Do: &pb.Action_Mqtt{Mqtt: &pb.MqttAction{Topic: "x", Payload: "y"}}}}}
		if _, err := api.PutSchedule(t.Context(), req(&pb.PutScheduleRequest{Schedule: s})); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Date(2099, 3, 28, 0, 0, 0, 0, time.UTC)
	ask := &pb.ListFiringsRequest{Project: p, Start: timestamppb.New(start), End: timestamppb.New(start.AddDate(0, 0, 3)), PerDay: 2, PageSize: 1}
	var words, zones []string
	faults := 0
	for pages := 1; ; pages++ {
		res, err := api.ListFirings(t.Context(), req(ask))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range res.Msg.Firings {
			words = append(words, strings.TrimPrefix(f.Schedule, p+"/")+f.Time.AsTime().Format(" 02 15:04 ")+strings.TrimPrefix(f.State.String(), "FIRING_STATE_")+f.Note)
		}
		for _, c := range res.Msg.ClockChanges {
			zones = append(zones, c.Zone+c.Time.AsTime().Format(" 02 15:04 ")+c.By.AsDuration().String())
		}
		faults += len(res.Msg.Faults)
		if ask.PageToken = res.Msg.NextPageToken; ask.PageToken == "" {
			if pages != 3 {
				t.Errorf("%d pages of one schedule each, want 3", pages)
			}
			break
		}
	}
	want := "a 28 01:30 PLANNED, a 29 01:30 PLANNEDthe clocks skip 02:30, a 30 00:30 LEFT_OUTone of the schedule's exceptions, " +
		"b 28 00:00 PLANNED, b 28 00:01 PLANNED, b 29 00:00 PLANNED, b 29 00:01 PLANNED, b 30 00:00 PLANNED, b 30 00:01 PLANNED"
	if got := strings.Join(words, ", "); got != want {
		t.Errorf("firings:\n%s, want\n%s", got, want)
	}
	if got := strings.Join(zones, ", "); got != "Europe/Berlin 29 01:00 1h0m0s" || faults != 1 {
		t.Errorf("clocks: %s; %d faults", got, faults)
	}
	ask.End = timestamppb.New(start.AddDate(0, 3, 0))
	if _, err := api.ListFirings(t.Context(), req(ask)); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "62 days") {
		t.Errorf("three months: %v", err)
	}
}

// TestAlarmStatistics: spells are told from the journal also where the alarm is gone, and measured in groups.
func TestAlarmStatistics(t *testing.T) {
	h, p := openHouse(t), fresh("statistics")
	api := rpcv1.NewAutomationServiceClient(h.http(h.admin), h.url)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	raise := func(name string, s pb.AlarmSeverity) {
		t.Helper()
		_, err := api.RaiseAlarm(t.Context(), req(&pb.RaiseAlarmRequest{Id: p + "/" + name, Text: "t", Severity: s}))
		must(err)
	}
	change := func(m *pb.ChangeAlarmRequest) {
		t.Helper()
		_, err := api.ChangeAlarm(t.Context(), req(m))
		must(err)
	}
	for range 2 {
		raise("leak", pb.AlarmSeverity_ALARM_SEVERITY_CRITICAL)
		change(&pb.ChangeAlarmRequest{Id: p + "/leak", Change: &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true}})
		change(&pb.ChangeAlarmRequest{Id: p + "/leak", Change: &pb.ChangeAlarmRequest_Clear{Clear: true}})
	}
	raise("cold", pb.AlarmSeverity_ALARM_SEVERITY_WARNING)
	raise("gone", pb.AlarmSeverity_ALARM_SEVERITY_WARNING)
	change(&pb.ChangeAlarmRequest{Id: p + "/gone", Change: &pb.ChangeAlarmRequest_Clear{Clear: true}})
	_, err := api.DeleteAlarm(t.Context(), req(&pb.DeleteAlarmRequest{Id: p + "/gone"}))
	must(err)
	var got *pb.GetAlarmStatisticsResponse
	ask := &pb.GetAlarmStatisticsRequest{Filter: &pb.AlarmFilter{Project: p}, Group: pb.AlarmGroup_ALARM_GROUP_ALARM}
	res, err := api.GetAlarmStatistics(t.Context(), req(ask))
	must(err)
	got = res.Msg
	if x := got.Total; x.Raised != 4 || x.Acknowledged != 2 || x.Cleared != 3 || x.Open != 1 || x.Unacknowledged != 1 || x.MeanAcknowledge == nil || x.MeanClear == nil || x.Longest == nil {
		t.Errorf("all: %v", x)
	}
	if len(got.Groups) != 3 || got.Groups[0].Group != p+"/leak" || got.Groups[0].Raised != 2 || got.Groups[1].Group != p+"/cold" || len(got.Bars) != 31 ||
		got.Bars[30].Raised["critical"]+got.Bars[29].Raised["critical"] != 2 {
		t.Errorf("groups: %v; %d bars", got.Groups, len(got.Bars))
	}
	ask.PageSize, ask.Filter.Severity = 1, pb.AlarmSeverity_ALARM_SEVERITY_CRITICAL
	res, err = api.GetAlarmStatistics(t.Context(), req(ask))
	must(err)
	if len(res.Msg.Groups) != 1 || res.Msg.NextPageToken != "" {
		t.Errorf("the critical ones: %v", res.Msg)
	}
	var names []string
	list := &pb.ListAlarmSpellsRequest{Filter: &pb.AlarmFilter{Project: p}, PageSize: 2}
	for {
		res, err := api.ListAlarmSpells(t.Context(), req(list))
		must(err)
		for _, s := range res.Msg.Spells {
			names = append(names, strings.TrimPrefix(s.Alarm, p+"/"))
		}
		if list.PageToken = res.Msg.NextPageToken; list.PageToken == "" {
			break
		}
	}
	if slices.Sort(names); strings.Join(names, " ") != "cold gone leak leak" {
		t.Errorf("spells: %q", names)
	}
	ask.Filter.Start, ask.Filter.End = timestamppb.New(time.Now()), timestamppb.New(time.Now().Add(-time.Hour))
	if _, err := api.GetAlarmStatistics(t.Context(), req(ask)); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a start after the end: %v", err)
	}
}
