package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (n *node) alarm(id string) *pb.Alarm {
	n.t.Helper()
	m, err := n.reg.Alarm(id)
	if err != nil && !errors.Is(err, actors.ErrNotFound) {
		n.t.Fatal(err)
	}
	return m
}

// alarms gives the names of those that need attention.
func (n *node) alarms() string {
	n.t.Helper()
	res, err := n.reg.ListAlarms(&pb.ListAlarmsRequest{Project: "default"}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, m := range res.Alarms {
		all = append(all, strings.TrimPrefix(m.Id, "default/"))
	}
	return strings.Join(all, " ")
}

func (n *node) changeAlarm(req *pb.ChangeAlarmRequest, by string) *pb.Alarm {
	n.t.Helper()
	m, err := n.reg.ChangeAlarm(ctx(n.t), req, by)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// A rule raises an alarm for each of its twins and clears it; people acknowledge, shelve and assign it; what nobody looks at escalates, at
// the right time, once.
func TestAlarmOfARule(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a", "b")
	n.rule(`{"id":"hot","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 30",
		"then":[{"raise":{"severity":"ALARM_SEVERITY_ERROR","text":"${twin.name} has ${value}","escalate":[
			{"after":"0s","actions":[{"mqtt":{"topic":"told","payload":"${value.severity}: ${value.text}"}}]},
			{"after":"600s","actions":[{"mqtt":{"topic":"boss","payload":"${value.text}"}}]}]}}],
		"otherwise":[{"clear":{}}]}`)
	n.absorb("a", `{"level":31}`, 0)
	until(t, "the alarm is there", func() bool { return n.alarms() == "hot.a" })
	m := n.alarm("hot.a")
	if !m.Active || m.Acknowledged || m.Severity != pb.AlarmSeverity_ALARM_SEVERITY_ERROR || m.Text != "a has 31" || m.By != "rule/default/hot" || m.Raised != 1 ||
		m.Twin != "default/a" || m.Changes[0].What != "raised" {
		t.Errorf("raised: %v", m)
	}
	told := func(want string) {
		t.Helper()
		until(t, "it was told "+want, func() bool {
			n.engine.Tick()
			n.mu.Lock()
			defer n.mu.Unlock()
			return strings.Join(n.published, "|") == want
		})
	}
	told("told error: a has 31")
	c.to(t, "2026-03-01T07:10:00Z", n)
	told("told error: a has 31|boss a has 31")
	n.absorb("b", `{"level":40}`, 0)
	told("told error: a has 31|boss a has 31|told error: b has 40")
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "hot.b", Change: &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true}, Note: "seen"}, "kim")
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "hot.b", Change: &pb.ChangeAlarmRequest_Assign{Assign: "lee"}}, "kim")
	c.to(t, "2026-03-01T07:30:00Z", n)
	n.absorb("a", `{"level":3}`, 0)
	until(t, "the alarm is cleared", func() bool { return !n.alarm("hot.a").Active })
	if got := n.alarms(); got != "hot.a hot.b" { // a is not acknowledged, b is active
		t.Errorf("alarms: %q", got)
	}
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "hot.a", Change: &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true}}, "kim")
	m = n.changeAlarm(&pb.ChangeAlarmRequest{Id: "hot.b", Change: &pb.ChangeAlarmRequest_Shelve{Shelve: durationpb.New(time.Hour)}}, "kim")
	if got := n.alarms(); got != "" || m.AssignedTo != "lee" || m.AcknowledgedBy != "kim" {
		t.Errorf("alarms: %q; %v", got, m)
	}
	c.to(t, "2026-03-01T08:31:00Z", n)
	if got := n.alarms(); got != "hot.b" {
		t.Errorf("when it is shelved no longer: %q", got)
	}
	told("told error: a has 31|boss a has 31|told error: b has 40") // b was acknowledged in time
	n.absorb("a", `{"level":50}`, 0)
	told("told error: a has 31|boss a has 31|told error: b has 40|told error: a has 50")
	if m := n.alarm("hot.a"); m.Raised != 2 || m.Acknowledged || !m.Active {
		t.Errorf("the second time: %v", m)
	}
	counts, err := n.reg.CountAlarms("default", nil)
	if err != nil || counts.Active != 2 || counts.BySeverity["error"] != 2 || counts.ByTwin["default/a"] != 1 || counts.Unacknowledged != 1 {
		t.Errorf("counts: %v, %v", counts, err)
	}
	if err := n.reg.DeleteAlarm(ctx(t), "hot.a"); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is left of it", func() bool {
		return n.records("unit", "alarm/default/hot.a") == 0 && n.records("run", "alarm/default/hot.a") == 0
	})
}

// A gateway's alarm silences those of the twins behind it, as long as it is active.
func TestAlarmsBehindAGateway(t *testing.T) {
	n := newNode(t)
	n.sensors("gw")
	n.twin(`{"id":"child","model":"sensor","via":"gw"}`)
	n.twin(`{"id":"grandchild","model":"sensor","via":"child"}`)
	raise := func(id, twin string) {
		t.Helper()
		if _, err := n.reg.RaiseAlarm(ctx(t), &pb.RaiseAlarmRequest{Id: id, Text: "down", Twin: twin}, "kim"); err != nil {
			t.Fatal(err)
		}
	}
	raise("child-down", "child")
	raise("grandchild-down", "grandchild")
	if got := n.alarms(); got != "child-down" || n.alarm("child-down").Suppresses != 1 {
		t.Errorf("alarms: %q, behind the child's %d", got, n.alarm("child-down").Suppresses)
	}
	raise("gw-down", "gw")
	if got := n.alarms(); got != "gw-down" || n.alarm("child-down").SuppressedBy != "default/gw-down" {
		t.Errorf("alarms: %q", got)
	}
	list, err := n.reg.ListAlarms(&pb.ListAlarmsRequest{Project: "default"}, nil)
	if err != nil || len(list.Alarms) != 1 || list.Alarms[0].Suppresses != 2 || n.alarm("gw-down").Suppresses != 2 {
		t.Errorf("the gateway's stands for those behind it: %v, %v", list, err)
	}
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "gw-down", Change: &pb.ChangeAlarmRequest_Clear{Clear: true}}, "kim")
	if m := n.alarm("gw-down"); m.Suppresses != 0 {
		t.Errorf("one that is cleared: %v", m)
	}
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "gw-down", Change: &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true}}, "kim")
	if got := n.alarms(); got != "child-down" {
		t.Errorf("alarms: %q", got)
	}
	for _, c := range []struct {
		req  *pb.RaiseAlarmRequest
		want string
	}{
		{&pb.RaiseAlarmRequest{Id: "x", Twin: "nobody"}, "/twin"},
		{&pb.RaiseAlarmRequest{Id: "x", Escalate: []*pb.Escalation{{After: durationpb.New(time.Hour), Actions: []*pb.Action{{Do: &pb.Action_Stop{Stop: true}}}},
			{After: durationpb.New(time.Minute), Actions: []*pb.Action{{Do: &pb.Action_Stop{Stop: true}}}}}}, "/escalate/1/after"},
		{&pb.RaiseAlarmRequest{Id: "X"}, "/id"},
	} {
		if _, err := n.reg.RaiseAlarm(ctx(t), c.req, "kim"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.req, err, c.want)
		}
	}
	if _, err := n.reg.ChangeAlarm(ctx(t), &pb.ChangeAlarmRequest{Id: "none", Change: &pb.ChangeAlarmRequest_Clear{Clear: true}}, "kim"); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("an alarm that there is not: %v", err)
	}
}

// Many raise and acknowledge one alarm at the same time: each of them is counted, and nothing is lost over a crash.
func TestAlarmsSurviveACrash(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 5 {
				_, err := n.client.Automation().RaiseAlarm(ctx(t), automation.Raise{ID: "default/busy", Text: "x", By: "me", Key: fmt.Sprintf("%d.%d", i, k),
					Escalate: []*pb.Escalation{{After: durationpb.New(300 * time.Millisecond), Actions: []*pb.Action{
						{Do: &pb.Action_Mqtt{Mqtt: &pb.MqttAction{Topic: "late"}}}}}}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if m := n.alarm("busy"); m.Told != 40 || m.Raised != 1 {
		t.Errorf("told %d times, raised %d", m.Told, m.Raised)
	}
	n.close()
	before := n
	n = open(t, fs, 2)
	told := func(n *node) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.published) > 0
	}
	until(t, "it escalates", func() bool { return told(n) || told(before) }) // a slow machine may have had the time before it closed
	if m := n.alarm("busy"); m.Told != 40 || !m.Active {
		t.Errorf("after the crash: %v", m)
	}
}
