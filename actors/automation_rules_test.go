package actors_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors/automation"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// One rule for all sensors of a kind: each has its own state, and what has to hold for a time does so by the clock.
func TestRuleForManyTwinsOverTime(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a", "b", "z")
	n.rule(`{"id":"r","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 10","for":"60s","oncePer":"600s",
		"then":[{"set":{"property":"scene","value":"high"}}],"otherwise":[{"set":{"property":"scene","value":"low"}}]}`)
	n.absorb("a", `{"level":11}`, 0)
	n.absorb("b", `{"level":12}`, 0)
	n.evaluated("r", 2)
	c.to(t, "2026-03-01T07:00:30Z", n)
	n.absorb("b", `{"level":5}`, 0) // it ceased too soon
	n.evaluated("r", 3)
	c.to(t, "2026-03-01T07:01:01Z", n)
	n.becomes("a", "scene", "high")
	if a := n.unit(automation.KindRule, "r"); a.Rule.Firings != 1 || a.Rule.Active != 1 || n.text("b", "scene") != "" {
		t.Errorf("%v; b is %q", a.Rule, n.text("b", "scene"))
	}
	n.absorb("a", `{"level":1}`, 0)
	n.becomes("a", "scene", "low")
	n.absorb("a", `{"level":20}`, 0) // and again, within ten minutes
	n.evaluated("r", 6)
	c.to(t, "2026-03-01T07:02:30Z", n)
	var a *actorv1.UnitAnswer
	until(t, "the second one is left out", func() bool { n.engine.Tick(); a = n.unit(automation.KindRule, "r"); return a.Rule.Dampened == 1 })
	if got := n.text("a", "scene"); got != "low" || !strings.Contains(a.Evaluations[0].Verdict, "left out: it fired 1m29s ago") {
		t.Errorf("scene %q, %v", got, a.Evaluations[0])
	}
	c.to(t, "2026-03-01T07:11:02Z", n) // it still holds: what was left out is made up for
	n.becomes("a", "scene", "high")
	if a := n.unit(automation.KindRule, "r"); a.Rule.Firings != 3 || a.Rule.Active != 1 {
		t.Errorf("%v", a.Rule)
	}
}

// Two of three; other twins' values; a window across midnight; debounce; acting again as long as it holds.
func TestRuleConditions(t *testing.T) {
	n, c := clocked(t, "2026-03-01T21:00:00Z")
	n.sensors("a", "b", "d", "out")
	n.rule(`{"id":"two","when":[{"property":{"of":{"twins":["a","b","d"]},"names":["level"]}}],"if":"value > 10","atLeast":2,
		"then":[{"set":{"to":{"twin":"out"},"property":"scene","value":"two"}}],"otherwise":[{"set":{"to":{"twin":"out"},"property":"scene","value":"fewer"}}]}`)
	n.rule(`{"id":"sum","when":[{"property":{"of":{"twins":["a","b"]},"names":["other"]}}],"if":"twins['a'].properties.other + twins['b'].properties.other > 10.0",
		"then":[{"set":{"to":{"twin":"out"},"property":"echo","expr":"value"}}]}`)
	n.rule(`{"id":"night","when":[{"property":{"of":{"twins":["d"]},"names":["other"]}}],"if":"value > 0","windows":[{"from":"22:00","to":"06:00"}],
		"then":[{"set":{"to":{"twin":"d"},"property":"scene","value":"night"}}]}`)
	n.rule(`{"id":"calm","when":[{"property":{"of":{"twins":["b"]},"names":["level"]}}],"if":"value > 10","settle":"5s","each":true,
		"then":[{"set":{"to":{"twin":"b"},"property":"scene","expr":"'calm at ' + string(value)"}}]}`)
	n.rule(`{"id":"again","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 10","repeat":"30s",
		"then":[{"mqtt":{"topic":"again","payload":"${twin.name}"}}]}`)
	n.absorb("a", `{"level":11}`, 0)
	n.evaluated("two", 1)
	n.absorb("b", `{"level":12}`, 0)
	n.becomes("out", "scene", "two")
	n.absorb("a", `{"level":1}`, 0)
	n.becomes("out", "scene", "fewer")

	n.absorb("a", `{"other":4}`, 0)
	a := n.evaluated("sum", 1)
	if a.Evaluations[0].Holds || a.Evaluations[0].Error == "" {
		t.Errorf("b has no such value yet: %v", a.Evaluations[0])
	}
	n.absorb("b", `{"other":7}`, 0)
	until(t, "the sum is seen", func() bool { return n.state("out").Properties["echo"].GetValue().GetNumberValue() == 7 })

	n.absorb("d", `{"other":1}`, 0) // by day
	until(t, "it is outside of its window", func() bool { return n.unit(automation.KindRule, "night").Rule.Outside == 1 })
	n.absorb("b", `{"level":13}`, 0)
	n.absorb("b", `{"level":14}`, 0)
	until(t, "it waits for calm, and has heard all", func() bool {
		return n.unit(automation.KindRule, "calm").Rule.Pending == 1 && n.records("outbox", "") == 0
	})
	if got := n.text("b", "scene"); got != "" {
		t.Errorf("scene before it was calm: %q", got)
	}
	c.to(t, "2026-03-01T21:00:06Z", n)
	n.becomes("b", "scene", "calm at 14")
	if f := n.unit(automation.KindRule, "calm").Rule.Firings; f != 1 {
		t.Errorf("%d firings", f)
	}
	c.to(t, "2026-03-01T22:00:00Z", n)
	n.becomes("d", "scene", "night")

	n.absorb("a", `{"level":30}`, 0)
	fired := func(times uint64) {
		t.Helper()
		until(t, fmt.Sprintf("it acts %d times", times), func() bool { n.engine.Tick(); return n.unit(automation.KindRule, "again").Rule.Firings == times })
	}
	was := n.unit(automation.KindRule, "again").Rule.Firings // it fired once before
	if was == 1 {
		fired(2)
	}
	now := n.unit(automation.KindRule, "again").Rule.Firings
	c.to(t, "2026-03-01T22:00:31Z", n)
	fired(now + 1)
	c.to(t, "2026-03-01T22:01:02Z", n)
	fired(now + 2)
}

// What one state for all twins raises is one alarm, whichever of them has it begin or cease to hold.
func TestAlarmOfManyTwins(t *testing.T) {
	n := newNode(t)
	n.sensors("a", "b", "d")
	n.rule(`{"id":"two","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 10","atLeast":2,
		"then":[{"raise":{"text":"${twin.name}"}}],"otherwise":[{"clear":{}}]}`)
	n.absorb("a", `{"level":11}`, 0)
	n.evaluated("two", 1)
	n.absorb("b", `{"level":12}`, 0)
	until(t, "it is raised", func() bool { return n.alarms() == "two" })
	if m := n.alarm("two"); m.Text != "b" || m.Twin != "" || !m.Active {
		t.Errorf("the alarm: %v", m)
	}
	n.absorb("a", `{"level":1}`, 0)
	until(t, "it is cleared", func() bool { return !n.alarm("two").Active })
	a := n.evaluated("two", 3)
	until(t, "both runs are told", func() bool { a = n.unit(automation.KindRule, "two"); return len(a.Runs) == 2 })
	if got := a.Runs[1].Steps[0].Action; got != "raise warning" {
		t.Errorf("the step reads %q", got)
	}
	if got, want := a.Evaluations[0].Verdict+", "+a.Evaluations[1].Verdict, "1 of 2; ceased to hold; fired, 2 of 2; fired"; got != want {
		t.Errorf("why says %q, want %q", got, want)
	}
}

// Before anything was said to a rule, why says what is there, and blames no kinds of values.
func TestWhyBeforeTheFirstValue(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a", "b")
	n.rule(`{"id":"hot","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 10","then":[{"stop":true}]}`)
	n.rule(`{"id":"posted","when":[{"webhook":{"secret":"a-secret-of-16-characters"}}],"if":"value.door == 1","then":[{"stop":true}]}`)
	n.rule(`{"id":"silent","when":[{"absent":{"of":{"twins":["a"]},"property":"level","since":"600s"}}],"then":[{"stop":true}]}`)
	n.rule(`{"id":"often","when":[{"schedule":{"every":{"period":"3600s"}}}],"if":"twins['a'].properties.level > 10","then":[{"stop":true}]}`)
	now := func(id, want string) {
		t.Helper()
		ev := n.unit(automation.KindRule, id).Now
		if got := fmt.Sprintf("%s: %v %s %s", ev.Subject, ev.Holds, ev.Verdict, ev.Error); strings.TrimSpace(got) != want {
			t.Errorf("why of %s: %q, want %q", id, got, want)
		}
	}
	now("hot", ": false does not hold: level has no value yet")
	now("posted", ": false nothing has come yet: webhook")
	now("silent", "default/a: false does not hold: level was not heard so far")
	now("often", ": false does not hold there is no such value: level")
	if ev, _, err := n.client.Automation().Test(n.rule(`{"id":"hot","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 10","then":[{"stop":true}]}`), "default/a", "", nil); err != nil || ev.Verdict != "does not hold: level has no value yet" || ev.Error != "" {
		t.Errorf("test: %v, %v", ev, err)
	}
	n.rule(`{"id":"warm","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["other"]}}],"if":"value < 10","then":[{"stop":true}]}`)
	n.absorb("a", `{"level":7}`, 0)
	n.absorb("b", `{"other":20}`, 0)
	n.rule(`{"id":"cold","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["other"]}}],"if":"value < 10","then":[{"stop":true}]}`)
	until(t, "the rule says what is there of the twin that has it", func() bool { return n.unit(automation.KindRule, "cold").Now.Subject == "default/b" })
	now("cold", "default/b: false does not hold")
	c.to(t, "2026-03-01T07:01:00Z", n)
	until(t, "it knows when the level was heard", func() bool {
		return n.unit(automation.KindRule, "silent").Now.Verdict == "does not hold: level was heard 1m0s ago"
	})
	c.to(t, "2026-03-01T07:11:00Z", n)
	until(t, "it is silent", func() bool { n.engine.Tick(); return n.unit(automation.KindRule, "silent").Now.Holds })
	now("silent", "default/a: true holds: no level was heard for 11m0s")
	n.absorb("a", `{"level":8}`, 0)
	c.to(t, "2026-03-01T07:15:00Z", n)
	until(t, "it is heard again", func() bool { n.engine.Tick(); return !n.unit(automation.KindRule, "silent").Now.Holds })
}

// Silence is an event of its own, which ends when something is heard.
func TestRuleOnSilence(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a", "b", "log")
	n.rule(`{"id":"silent","when":[{"absent":{"of":{"twins":["a","b"]},"property":"level","since":"600s"}}],
		"then":[{"set":{"to":{"twin":"log"},"property":"scene","expr":"twin.name + ' is silent'"}}],
		"otherwise":[{"set":{"to":{"twin":"log"},"property":"scene","expr":"twin.name + ' speaks'"}}]}`)
	n.evaluated("silent", 0)
	for _, at := range []string{"07:05:00", "07:09:00", "07:14:00"} {
		c.to(t, "2026-03-01T"+at+"Z", n)
		n.absorb("a", `{"level":1`+at[3:5]+`}`, 0)
		n.absorb("b", `{"level":1`+at[3:5]+`}`, 0)
		n.unit(automation.KindRule, "silent")
	}
	if a := n.unit(automation.KindRule, "silent"); a.Rule.Firings != 0 {
		t.Fatalf("it fired: %v", a)
	}
	c.to(t, "2026-03-01T07:20:00Z", n)
	n.absorb("b", `{"level":20}`, 0)
	c.to(t, "2026-03-01T07:24:30Z", n)
	step := func(at, want string) {
		t.Helper()
		c.to(t, at, n)
		until(t, want, func() bool { n.engine.Tick(); return n.text("log", "scene") == want })
	}
	step("2026-03-01T07:25:30Z", "a is silent")
	if a := n.unit(automation.KindRule, "silent"); len(a.Runs) == 0 || !strings.HasPrefix(a.Runs[0].Cause, "no level was heard for 1") {
		t.Errorf("its runs: %v", a.Runs)
	}
	n.absorb("a", `{"level":25}`, 0)
	step("2026-03-01T07:25:50Z", "a speaks")
}

// A rule that triggers itself by way of another one is stopped, and says by which way. One that sets something else is not.
func TestRulesThatLoop(t *testing.T) {
	n := newNode(t)
	n.sensors("a", "b")
	n.rule(`{"id":"ping","when":[{"property":{"of":{"twins":["a"]},"names":["echo"]}}],"each":true,
		"then":[{"set":{"to":{"twin":"b"},"property":"echo","expr":"value + 1"}}]}`)
	n.rule(`{"id":"pong","when":[{"property":{"of":{"twins":["b"]},"names":["echo"]}}],"each":true,
		"then":[{"set":{"to":{"twin":"a"},"property":"echo","expr":"value + 1"}}]}`)
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: "echo", Value: structpb.NewNumberValue(1)}, "me"); err != nil {
		t.Fatal(err)
	}
	var ping, pong *actorv1.UnitAnswer
	until(t, "one of them has stopped", func() bool {
		ping, pong = n.unit(automation.KindRule, "ping"), n.unit(automation.KindRule, "pong")
		return ping.Rule.Stopped != "" || pong.Rule.Stopped != ""
	})
	if want := "it leads to itself: rule/default/ping → rule/default/pong → rule/default/ping"; ping.Rule.Stopped != want || pong.Rule.Stopped != "" {
		t.Errorf("stopped: %q, %q", ping.Rule.Stopped, pong.Rule.Stopped)
	}
	if ping.Rule.Firings != 1 || pong.Rule.Firings != 1 {
		t.Errorf("firings: %d, %d", ping.Rule.Firings, pong.Rule.Firings)
	}
	// Changing it has it begin anew.
	n.rule(`{"id":"ping","title":"once more","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"each":true,
		"then":[{"set":{"to":{"twin":"b"},"property":"scene","value":"x"}}]}`)
	n.absorb("a", `{"level":1}`, 0)
	n.becomes("b", "scene", "x")
}

// A command that fails; a limit; stopping after some firings; what is refused, and where.
func TestRuleTriggersAndBounds(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.sensors("a", "log")
	n.rule(`{"id":"failed","when":[{"command":{"of":{"twins":["p"]}}}],"if":"value.outcome == 'rejected'",
		"then":[{"set":{"to":{"twin":"log"},"property":"scene","expr":"name + ' of ' + twin.name"}}]}`)
	n.rule(`{"id":"thrice","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"each":true,"disableAfter":3,"then":[{"mqtt":{"topic":"x"}}]}`)
	n.rule(`{"id":"few","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"each":true,"limit":2,"then":[{"mqtt":{"topic":"x"}}]}`)
	if _, err := n.invoke("p", "nothing-like-it", ""); err == nil {
		t.Fatal("an action that the driver does not have")
	}
	_, _ = n.invoke("p", "refuse", `{"message":"no"}`)
	for i := range 5 {
		n.absorb("a", fmt.Sprintf(`{"level":%d}`, i), 0)
	}
	until(t, "it stops after three", func() bool {
		r := n.unit(automation.KindRule, "thrice").Rule
		return r.Firings == 3 && strings.Contains(r.Stopped, "3 times")
	})
	until(t, "two a minute", func() bool {
		r := n.unit(automation.KindRule, "few").Rule
		return r.Firings == 2 && r.Storm == 3
	})
	for _, c := range []struct{ text, path, want string }{
		{`{"id":"x","when":[{"property":{}}],"if":"valeu > 1","then":[{"stop":true}]}`, "/rule/if", "value"},
		{`{"id":"x","when":[{"property":{}}],"if":"value +","then":[{"stop":true}]}`, "/rule/if", "1:8"},
		{`{"id":"x","when":[{"property":{}}]}`, "/rule/then", "an action"},
		{`{"id":"x","when":[{"property":{"of":{"twins":["other/a"]}}}],"then":[{"stop":true}]}`, "/rule/when/0/property/of/twins/0", "another project"},
		{`{"id":"x","when":[{"property":{}}],"then":[{"mqtt":{"topic":"a","payload":"${twn.id}"}}]}`, "/rule/then/0/mqtt", "twin"},
		{`{"id":"x","when":[{"property":{}}],"then":[{"set":{"property":"p"}}]}`, "/rule/then/0/set", "value, or expr"},
		{`{"id":"x","when":[{"property":{}}],"atLeast":2,"then":[{"set":{"property":"p","value":1}}]}`, "/rule/then/0/set/to", "name a twin"},
		{`{"id":"x","when":[{"schedule":{"cron":"x"}}],"then":[{"stop":true}]}`, "/rule/when/0/schedule/cron", "fields"},
	} {
		m := &pb.Rule{}
		if err := protojson.Unmarshal([]byte(c.text), m); err != nil {
			t.Fatal(err)
		}
		_, err := n.reg.PutRule(ctx(t), m)
		if err == nil || !strings.Contains(err.Error(), c.path+":") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s: … %s", c.text, err, c.path, c.want)
		}
	}
}

// Rules and schedules move with their slots under load, and a node that dies leaves its firings to the other: nothing is missed, and
// no command runs twice.
func TestAutomationMoves(t *testing.T) {
	a, b := pairLeased(t, 0)
	a.driver("probe", "1.0.0", "")
	var rules, sensors, probes []string
	for i := range 12 {
		id := fmt.Sprintf("m%d", i)
		rules, sensors, probes = append(rules, "r"+id), append(sensors, "s"+id), append(probes, "p"+id)
		a.twin(fmt.Sprintf(`{"id":"p%s","driver":"probe"}`, id))
	}
	a.sensors(sensors...)
	until(t, "b has the twins", func() bool { _, err := b.reg.GetTwin(sensors[len(sensors)-1]); return err == nil })
	for i, id := range rules {
		a.rule(fmt.Sprintf(`{"id":%q,"when":[{"property":{"of":{"twins":[%q]},"names":["echo"]}}],"each":true,"then":[{"call":{"to":{"twin":%q},"action":"count"}}]}`,
			id, sensors[i], probes[i]))
	}
	until(t, "b knows the rules", func() bool { _, err := b.reg.Rule(rules[len(rules)-1]); return err == nil })
	level := 0
	change := func() {
		level++
		for _, id := range sensors {
			req := &pb.SetDesiredRequest{Id: id, Property: "echo", Value: structpb.NewNumberValue(float64(level))}
			until(t, "the value is committed", func() bool { _, err := a.client.SetDesired(ctx(t), req, "me"); return err == nil })
		}
	}
	for range 3 {
		change()
	}
	a.drain("n2")
	for range 3 {
		change()
	}
	a.undrain("n2")
	moved := make(chan struct{})
	go func() { defer close(moved); time.Sleep(50 * time.Millisecond); b.close() }()
	for range 3 {
		change()
	}
	<-moved
	change()
	for i, id := range rules {
		until(t, id+" has fired for every value", func() bool {
			u, err := a.client.Automation().State(ctx(t), automation.KindRule, "default/"+id, &actorv1.UnitQuery{Runs: true})
			return err == nil && u.Rule.Firings == uint64(level) && len(u.Runs) > 0 && u.Runs[0].State != pb.RunState_RUN_STATE_OPEN
		})
		unknown := 0
		for _, r := range a.unit(automation.KindRule, id).Runs {
			if r.Steps[0].State != pb.StepState_STEP_STATE_DONE {
				unknown++
			}
		}
		var answer string
		until(t, "the twin answers", func() bool { got, err := a.invoke(probes[i], "count", ""); answer = string(got); return err == nil })
		count, err := strconv.Atoi(answer)
		if count--; err != nil || count > level || count < level-unknown {
			t.Errorf("%s: %d values, of %d firings it is not known whether the call was made, and the twin counts %d", id, level, unknown, count)
		}
	}
}
