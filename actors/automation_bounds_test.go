package actors_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ownedBy gives a name whose address has a slot that a node owns.
func (n *node) ownedBy(node, kind string) string {
	n.t.Helper()
	for i := range 1000 {
		name := fmt.Sprintf("u%d", i)
		if n.owner(automation.Address(kind, "default/"+name)) == node {
			return name
		}
	}
	n.t.Fatalf("no name of a %s is owned by %s", kind, node)
	return ""
}

// What happens between the put of a rule or a schedule and its start is seen: its node died in the meantime.
func TestUnitsCountFromTheirPut(t *testing.T) {
	a, b := pairLeased(t, 0)
	a.sensors("out")
	if _, err := a.reg.PutTopic(ctx(t), &pb.Topic{Id: "default/orders"}); err != nil {
		t.Fatal(err)
	}
	publish := func(payload string) {
		t.Helper()
		until(t, "published: "+payload, func() bool {
			_, err := a.client.Topics().Publish(ctx(t), &pb.PublishRequest{Topic: "default/orders", Messages: []*pb.TopicMessage{{Payload: []byte(payload)}}})
			return err == nil
		})
	}
	publish(`"too early"`)
	rule, at, once := a.ownedBy("n2", automation.KindRule), "", a.ownedBy("n2", automation.KindSchedule)
	for i := 0; at == ""; i++ {
		if name := fmt.Sprintf("at%d", i); a.owner("rule/default/"+name) == "n2" {
			at = name
		}
	}
	b.close() // as a crash does
	// Due before their new owner has them, but not before they are put, on a machine however slow.
	inTime := func(put func(due string) time.Time) {
		t.Helper()
		for wait := 300 * time.Millisecond; ; wait *= 2 {
			due := time.Now().Add(wait)
			if put(due.UTC().Format(time.RFC3339Nano)).Before(due.Add(-100 * time.Millisecond)) {
				return
			}
		}
	}
	a.rule(`{"id":"` + rule + `","when":[{"topic":{"topic":"orders"}}],"then":[{"set":{"to":{"twin":"out"},"property":"scene","expr":"string(value)"}}]}`)
	inTime(func(due string) time.Time {
		return a.rule(`{"id":"` + at + `","when":[{"schedule":{"at":"` + due + `"}}],"then":[{"set":{"to":{"twin":"out"},"property":"echo","value":1}}]}`).UpdateTime.AsTime()
	})
	inTime(func(due string) time.Time {
		if _, err := a.reg.Schedule(once); err == nil {
			if err := a.reg.DeleteSchedule(ctx(t), once); err != nil {
				t.Fatal(err)
			}
		}
		return a.schedule(`{"id":"` + once + `","timing":{"at":"` + due + `"},"actions":[{"set":{"to":{"twin":"out"},"property":"echo","value":1}}]}`).UpdateTime.AsTime()
	})
	publish(`"in between"`)
	a.becomes("out", "scene", "in between")
	if got := a.evaluated(rule, 1).Rule.Evaluations; got != 1 {
		t.Errorf("the rule has looked at %d messages", got)
	}
	until(t, "the schedule has fired", func() bool { return a.unit(automation.KindSchedule, once).Schedule.Firings >= 1 })
	until(t, "the rule with a time has fired", func() bool { return a.unit(automation.KindRule, at).Rule.Firings >= 1 })
}

// An action is tried again as its policy says, over a crash; who has it does not get it again, and what a device refused it is asked for anew.
func TestRetriesSurviveACrash(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe","labels":{"kind":"probe"}}`)
	n.twin(`{"id":"q","driver":"probe","labels":{"kind":"probe"},"stopped":true}`)
	n.sensors("s")
	n.rule(`{"id":"r","when":[{"property":{"of":{"twins":["s"]},"names":["level"]}}],"if":"value > 1","then":[
		{"call":{"to":{"labels":{"kind":"probe"}},"action":"count"},"retry":{"attempts":500,"initial":"0.05s","maximum":"0.2s","on":["RETRY_ON_ANY"]}},
		{"set":{"property":"scene","value":"done"}}]}`)
	n.absorb("s", `{"level":2}`, 0)
	var step *pb.Step
	tried := func(times uint32) {
		t.Helper()
		until(t, fmt.Sprintf("it was tried %d times", times), func() bool {
			a := n.unit(automation.KindRule, "r")
			if len(a.Runs) != 1 {
				return false
			}
			step = a.Runs[0].Steps[0]
			return step.Tries >= times && step.State == pb.StepState_STEP_STATE_RETRYING
		})
	}
	tried(3)
	if step.Until == nil || !strings.Contains(step.Error, "default/q") || strings.Join(step.Reached, " ") != "default/p" {
		t.Errorf("the step: %v", step)
	}
	n.close() // as a crash does
	n = open(t, fs, 2)
	tried(step.Tries + 1)
	n.update("q", func(tw *pb.Twin) { tw.Stopped = false })
	n.becomes("s", "scene", "done")
	for _, id := range []string{"p", "q"} {
		if got := n.must(id, "count", ""); got != "2" {
			t.Errorf("%s counts %s", id, got)
		}
	}

	n.rule(`{"id":"failed","when":[{"command":{"of":{"twins":["p"]}}}],"if":"name == 'fail'","then":[{"stop":true}]}`)
	n.rule(`{"id":"stubborn","when":[{"property":{"of":{"twins":["s"]},"names":["other"]}}],"then":[
		{"call":{"to":{"twin":"p"},"action":"fail","input":{"Text":"no"}},"retry":{"attempts":3,"initial":"0.01s","on":["RETRY_ON_REFUSED"]}}]}`)
	n.absorb("s", `{"other":1}`, 0)
	until(t, "it gives up", func() bool {
		a := n.unit(automation.KindRule, "stubborn")
		return len(a.Runs) == 1 && a.Runs[0].State == pb.RunState_RUN_STATE_FAILED && a.Runs[0].Steps[0].Tries == 3
	})
	n.evaluated("failed", 3) // the device was asked each time
}

// A rule that would act too often is limited, and says so: by an alarm, in its state and in what is listed of it. One that is to stop then stops.
func TestActionStorm(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a")
	n.rule(`{"id":"wild","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"each":true,"limit":3,"then":[{"mqtt":{"topic":"x","payload":"${value}"}}]}`)
	n.rule(`{"id":"tame","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"each":true,"limit":2,"stopOnStorm":true,"then":[{"mqtt":{"topic":"y","payload":"${value}"}}]}`)
	for i := range 6 {
		n.absorb("a", fmt.Sprintf(`{"level":%d}`, i), 0)
	}
	a := n.evaluated("wild", 6)
	if st := a.Rule; st.Firings != 3 || st.Storm != 3 || st.Storming == nil || st.Stopped != "" {
		t.Errorf("wild: %v", st)
	}
	if ev := a.Evaluations[0]; !strings.Contains(ev.Verdict, "left out: it fired 3 times within a minute") {
		t.Errorf("why says %v", ev)
	}
	st := n.evaluated("tame", 3).Rule
	if st.Firings != 2 || st.Storm != 1 || !strings.Contains(st.Stopped, "more than 2 times a minute") {
		t.Errorf("tame: %v", st)
	}
	until(t, "both are told", func() bool { return n.alarms() == "storm.tame storm.wild" })
	if m := n.alarm("storm.tame"); m.Severity != pb.AlarmSeverity_ALARM_SEVERITY_ERROR || !strings.Contains(m.Text, "it has stopped") || m.By != "rule/default/tame" {
		t.Errorf("the alarm: %v", m)
	}
	if st := n.client.Automation().Committed("default/wild"); st.Storm == 0 || st.Storming == nil || st.Firings != 3 {
		t.Errorf("what is listed of it: %v", st)
	}
	// What is to stop at a storm from now on stops at one that is there.
	n.rule(`{"id":"late","when":[{"property":{"of":{"twins":["a"]},"names":["other"]}}],"each":true,"limit":1,"then":[{"mqtt":{"topic":"z","payload":"${value}"}}]}`)
	n.absorb("a", `{"other":1}`, 0)
	n.absorb("a", `{"other":2}`, 0)
	n.evaluated("late", 2)
	n.rule(`{"id":"late","when":[{"property":{"of":{"twins":["a"]},"names":["other"]}}],"each":true,"limit":1,"stopOnStorm":true,"then":[{"mqtt":{"topic":"z","payload":"${value}"}}]}`)
	n.absorb("a", `{"other":3}`, 0)
	n.absorb("a", `{"other":4}`, 0)
	until(t, "it stops", func() bool { return n.unit(automation.KindRule, "late").Rule.Stopped != "" })
	until(t, "its alarm says so", func() bool { return n.alarm("storm.late").Severity == pb.AlarmSeverity_ALARM_SEVERITY_ERROR })
	c.to(t, "2026-03-01T07:01:01Z", n)
	until(t, "the storm is over", func() bool {
		n.engine.Tick()
		return !n.alarm("storm.wild").Active && n.unit(automation.KindRule, "wild").Rule.Storming == nil
	})
	n.absorb("a", `{"level":9}`, 0)
	if st := n.evaluated("wild", 7).Rule; st.Firings != 4 {
		t.Errorf("it fires again: %v", st)
	}
	if !n.alarm("storm.tame").Active {
		t.Error("the alarm of a rule that has stopped is there until somebody changes the rule")
	}
}
