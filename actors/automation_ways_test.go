package actors_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What a condition and a text read of the system and the zone of a twin, and a rule whose state is one for all of them.
func TestRuleReadsWhereATwinIs(t *testing.T) {
	n := newNode(t)
	n.zone("hq", "")
	n.zone("hq-1", "default/hq")
	n.sensors("a", "b", "c", "out")
	n.update("a", func(tw *pb.Twin) { tw.Zone = "default/hq-1" })
	n.system("room", "Sensor_1=a", "Blind_1=b")
	n.rule(`{"id":"where","when":[{"property":{"of":{"system":"room"},"names":["level"]}}],
		"if":"system.Blind_1.properties.other > 5.0 && system.id == 'default/room' && zone.id == 'default/hq-1' && 'default/hq' in zone.within",
		"then":[{"set":{"to":{"twin":"out"},"property":"scene","expr":"twin.name + ' in ' + zone.id"}}]}`)
	n.rule(`{"id":"anywhere","when":[{"property":{"of":{"zone":"hq"},"names":["level"]}}],"each":true,"then":[{"stop":true}]}`)
	n.absorb("a", `{"level":1}`, 0)
	if ev := n.evaluated("where", 1).Evaluations[0]; ev.Holds || ev.Error == "" {
		t.Errorf("the blind has no such value yet: %v", ev)
	}
	n.absorb("b", `{"other":6}`, 0)
	n.absorb("b", `{"level":2}`, 0) // of the system, and in no zone
	n.absorb("c", `{"level":2}`, 0) // of neither
	n.absorb("a", `{"level":3}`, 0)
	n.becomes("out", "scene", "a in default/hq-1")
	a := n.evaluated("where", 3)
	if ev := a.Evaluations[0]; a.Rule.Firings != 1 || ev.Values["default/b.other"] != "6" {
		t.Errorf("%v; why says %v", a.Rule, ev)
	}
	if got := n.evaluated("anywhere", 2).Rule; got.Firings != 2 {
		t.Errorf("of twins in the zone: %v", got)
	}

	n.rule(`{"id":"one","when":[{"property":{"of":{"twins":["b","c"]},"names":["other"]}}],"if":"value > 10.0","together":true,
		"then":[{"set":{"to":{"twin":"out"},"property":"scene","expr":"'on by ' + twin.name"}}],"otherwise":[{"set":{"to":{"twin":"out"},"property":"scene","expr":"'off by ' + twin.name"}}]}`)
	n.absorb("b", `{"other":11}`, 0)
	n.becomes("out", "scene", "on by b")
	n.absorb("c", `{"other":12}`, 0) // it holds already
	n.absorb("c", `{"other":3}`, 0)
	n.becomes("out", "scene", "off by c")
	if got := n.evaluated("one", 3).Rule; got.Firings != 2 || got.Active != 0 {
		t.Errorf("the state is one for both: %v", got)
	}
}

// An action is for a twin, a system or a part of it, what has an interface in a zone, a model, labels.
func TestTargetsOfActions(t *testing.T) {
	n := newNode(t)
	n.zone("hq", "")
	n.zone("hq-1", "default/hq")
	n.driverWith("switch", "1.0.0", "", func(m map[string]any) { m["interfaces"] = []string{"Switchable"} })
	n.driver("probe", "1.0.0", "")
	for _, doc := range []string{`{"id":"near","driver":"switch","zone":"hq-1"}`, `{"id":"far","driver":"switch"}`, `{"id":"other","driver":"probe","zone":"hq-1","labels":{"kind":"lamp"}}`,
		`{"id":"level","driver":"switch","zone":"hq","labels":{"kind":"lamp"}}`} {
		n.twin(doc)
	}
	n.system("room", "Lamp_1=near", "Lamp_2=far", "Display_1=other")
	n.sensors("s", "tell")
	all := []string{"near", "far", "other", "level"}
	for i, x := range []struct{ to, want string }{
		{`"twin":"far"`, "far"},
		{`"system":"room"`, "near far other"},
		{`"system":"room","name":"Lamp"`, "near far"},
		{`"system":"room","name":"Lamp_2"`, "far"},
		{`"zone":"hq","interface":"Switchable"`, "near level"},
		{`"zone":"hq-1"`, "near other"},
		{`"labels":{"kind":"lamp"}`, "other level"},
		{`"system":"room","labels":{"kind":"lamp"}`, "other"},
	} {
		id := fmt.Sprintf("r%d", i)
		n.rule(`{"id":"` + id + `","when":[{"property":{"of":{"twins":["s"]},"names":["level"]}}],"if":"value == ` + fmt.Sprint(i) + `","then":[
			{"call":{"to":{` + x.to + `},"action":"report","inputExpr":"{'level': value + 100.0}"}}]}`)
		n.absorb("s", fmt.Sprintf(`{"level":%d}`, i), 0)
		until(t, id+" has acted", func() bool {
			a := n.unit(automation.KindRule, id)
			return len(a.Runs) == 1 && a.Runs[0].State != pb.RunState_RUN_STATE_OPEN
		})
		var got []string
		for _, twin := range all {
			if n.prop(twin, "level") == fmt.Sprint(100+i) {
				got = append(got, twin)
			}
		}
		if strings.Join(got, " ") != x.want {
			t.Errorf("%s: %v, want %s; %v", x.to, got, x.want, n.unit(automation.KindRule, id).Runs)
		}
	}
	// Those of a model; a name that is nobody's; a zone without any.
	n.rule(`{"id":"model","when":[{"property":{"of":{"twins":["s"]},"names":["other"]}}],"then":[
		{"set":{"to":{"model":"sensor"},"property":"scene","value":"told"}},
		{"call":{"to":{"system":"room","name":"Blind"},"action":"count"},"goOn":true},
		{"call":{"to":{"zone":"hq","interface":"Cover"},"action":"count"}}]}`)
	n.absorb("s", `{"other":1}`, 0)
	n.becomes("s", "scene", "told")
	n.becomes("tell", "scene", "told")
	until(t, "what nobody is meant by has failed", func() bool {
		a := n.unit(automation.KindRule, "model")
		if len(a.Runs) != 1 || a.Runs[0].State != pb.RunState_RUN_STATE_FAILED {
			return false
		}
		s := a.Runs[0].Steps
		return strings.Contains(s[1].Error, "no twin is meant by it") && strings.Contains(s[2].Error, "no twin is meant by it")
	})
}

// Actions go one after the other or side by side; one may be left out, stop what follows, or fail and let it go on.
func TestStepsOfARun(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.sensors("s", "out")
	d := n.line("a", nil)
	release := n.busy("a", d)
	const when = `"when":[{"property":{"of":{"twins":["s"]},"names":["level"]}}],"each":true`
	n.rule(`{"id":"beside",` + when + `,"then":[{"parallel":{"actions":[{"call":{"to":{"twin":"a"},"action":"send","input":{"text":"x"}}},{"set":{"to":{"twin":"out"},"property":"scene","value":"beside"}}]}},
		{"set":{"to":{"twin":"out"},"property":"scene","value":"after"}}]}`)
	n.rule(`{"id":"stops",` + when + `,"then":[{"mqtt":{"topic":"one"}},{"stop":true,"if":"value > 1.0"},{"mqtt":{"topic":"two"}}]}`)
	n.rule(`{"id":"fails",` + when + `,"then":[{"call":{"to":{"twin":"p"},"action":"fail","input":{"text":"no"}},"goOn":true},{"mqtt":{"topic":"three"}},
		{"call":{"to":{"twin":"p"},"action":"fail","input":{"text":"no"}}},{"mqtt":{"topic":"four"}}]}`)
	n.absorb("s", `{"level":1}`, 0)
	run := func(id string, ended bool) *pb.Run {
		t.Helper()
		var r *pb.Run
		until(t, id+" is there", func() bool {
			a := n.unit(automation.KindRule, id)
			if len(a.Runs) == 0 {
				return false
			}
			r = a.Runs[0]
			return (r.State != pb.RunState_RUN_STATE_OPEN) == ended
		})
		return r
	}
	words := func(r *pb.Run) string {
		var all []string
		for _, s := range r.Steps {
			all = append(all, strings.ToLower(strings.TrimPrefix(s.State.String(), "STEP_STATE_")))
		}
		return strings.Join(all, " ")
	}
	n.becomes("out", "scene", "beside") // it does not wait for the device that is busy
	if got := words(run("beside", false)); got != "started started unspecified" {
		t.Errorf("side by side: %s", got)
	}
	release()
	n.becomes("out", "scene", "after")
	if got := words(run("beside", true)); got != "done done done" {
		t.Errorf("side by side: %s", got)
	}

	if got := words(run("stops", true)); got != "done left_out done" {
		t.Errorf("it does not stop at 1: %s", got)
	}
	r := run("fails", true)
	if got := words(r); got != "failed done failed left_out" || r.State != pb.RunState_RUN_STATE_FAILED || !strings.Contains(r.Steps[3].Error, "before it failed") {
		t.Errorf("one fails: %s, %v", got, r)
	}
	n.absorb("s", `{"level":2}`, 0)
	until(t, "it stops at 2", func() bool {
		a := n.unit(automation.KindRule, "stops")
		return len(a.Runs) == 2 && words(a.Runs[0]) == "done done left_out" && strings.Contains(a.Runs[0].Steps[2].Error, "stopped")
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if got := slices.Compact(slices.Sorted(slices.Values(n.published))); strings.Join(got, ",") != "one ,three ,two " {
		t.Errorf("published: %q", got)
	}
}

// A rule's commands have its priority, where an action says nothing else.
func TestPriorityOfARule(t *testing.T) {
	n := newNode(t)
	d := n.line("a", nil)
	n.sensors("s")
	release := n.busy("a", d)
	for _, x := range []struct{ id, priority, own string }{{"low", "10", ""}, {"high", "90", ""}, {"own", "10", `,"priority":70`}, {"usual", "0", ""}} {
		n.rule(`{"id":"` + x.id + `","priority":` + x.priority + `,"when":[{"property":{"of":{"twins":["s"]},"names":["level"]}}],"then":[
			{"call":{"to":{"twin":"a"},"action":"send","input":{"text":"` + x.id + `"}` + x.own + `}}]}`)
	}
	n.absorb("s", `{"level":1}`, 0)
	n.waits("a", 4)
	release()
	until(t, "all are sent", func() bool { return d.heard("low") == 1 })
	if got := strings.Join(d.lines(), ","); got != "busy,high,own,usual,low" {
		t.Errorf("sent in the order %s", got)
	}
}

// A rule hears of events of twins, each time, and of nodes that come and go.
func TestRuleOnEventsAndNodes(t *testing.T) {
	a, b := pairLeased(t, 0)
	a.driver("probe", "1.0.0", "")
	a.twin(`{"id":"p","driver":"probe"}`)
	a.sensors("out", "nodes")
	a.rule(`{"id":"bell","when":[{"event":{"of":{"twins":["p"]},"names":["fired"]}}],"if":"value.n > 1.0","then":[
		{"set":{"to":{"twin":"out"},"property":"scene","expr":"name + ' ' + string(value.n)"}}]}`)
	a.rule(`{"id":"nodes","when":[{"node":{}}],"then":[{"set":{"to":{"twin":"nodes"},"property":"scene","expr":"name + ' is ' + value"}}]}`)
	a.evaluated("nodes", 0)
	for i, timer := range []string{"one", "two", "one"} {
		a.must("p", "timer", fmt.Sprintf(`{"name":%q,"after_ms":1,"data":{"n":%d}}`, timer, i))
		until(t, "it rang", func() bool { return a.prop("p", "fired") == fmt.Sprint(i+1) })
	}
	a.becomes("out", "scene", "fired 2")
	if got := a.unit(automation.KindRule, "bell").Rule; got.Firings != 1 {
		t.Errorf("it rang three times: %v", got)
	}
	a.drain("n2")
	a.becomes("nodes", "scene", "n2 is draining")
	a.undrain("n2")
	a.becomes("nodes", "scene", "n2 is active")
	b.close() // as a crash does
	a.becomes("nodes", "scene", "n2 is dead")
}

// Sunrise and sunset of a place that a zone, what it is in, or a twin has; it is known later than the schedule.
func TestSunOfAZoneAndATwin(t *testing.T) {
	n, _ := clocked(t, "2026-06-21T00:00:00Z")
	n.zone("site", "")
	n.zone("room", "default/site")
	n.model("car", thing("Car", `"lat":{"type":"number"},"lon":{"type":"number"}`))
	n.twin(`{"id":"car","model":"car"}`)
	n.twin(`{"id":"lamp","model":"car","zone":"room"}`)
	schedule := func(id, of string) *pb.Schedule {
		return n.schedule(`{"id":"` + id + `","timing":{"zone":"Europe/Berlin","sun":{"set":true,` + of + `}},"actions":[{"mqtt":{"topic":"x"}}]}`)
	}
	all := map[string]*pb.Schedule{"zone": schedule("zone", `"zoneId":"room"`), "twin": schedule("twin", `"twinId":"car"`), "lamp": schedule("lamp", `"twinId":"lamp"`)}
	if st := n.unit(automation.KindSchedule, "zone").Schedule; st.Fault == "" || st.Next != nil {
		t.Errorf("nobody knows where it is: %v", st)
	}
	z, err := n.reg.GetZone("site")
	if err != nil {
		t.Fatal(err)
	}
	z.Place = &pb.Place{Latitude: 52.52, Longitude: 13.405}
	if _, err := n.reg.PutZone(ctx(t), z); err != nil {
		t.Fatal(err)
	}
	n.absorb("car", `{"lat":48.14,"lon":11.58}`, 0)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"zone": "21:33", "lamp": "21:33", "twin": "21:17"} { // Berlin, Berlin, Munich
		var next []time.Time
		until(t, id+" knows its place", func() bool {
			next, err = n.client.Automation().NextFirings(all[id], time.Date(2026, 6, 21, 0, 0, 0, 0, time.UTC), 1)
			return err == nil && len(next) == 1
		})
		at, _ := time.ParseInLocation("2006-01-02 15:04", "2026-06-21 "+want, berlin)
		if d := next[0].Sub(at); d < -3*time.Minute || d > 3*time.Minute {
			t.Errorf("%s: %s, want %s", id, next[0].In(berlin), want)
		}
	}
}

// Jitter spreads schedules of one time, each the same wherever it is worked out, and they fire then.
func TestJitterSpreadsSchedules(t *testing.T) {
	n, c := clocked(t, "2026-03-01T06:59:00Z")
	due := time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC)
	later := map[string]time.Duration{}
	for i := range 20 {
		id := fmt.Sprintf("j%d", i)
		m := n.schedule(`{"id":"` + id + `","timing":{"cron":"0 7 * * *"},"jitter":"600s","actions":[{"mqtt":{"topic":"` + id + `"}}]}`)
		next, err := n.client.Automation().NextFirings(m, due.Add(-time.Hour), 2)
		if err != nil || len(next) != 2 {
			t.Fatal(next, err)
		}
		later[id] = next[0].Sub(due)
		if later[id] < 0 || later[id] >= 10*time.Minute || next[1].Sub(next[0]) == 24*time.Hour {
			t.Errorf("%s: %s, and a day later as late again: %s", id, next[0], next[1])
		}
		if st := n.unit(automation.KindSchedule, id).Schedule; !st.Next.AsTime().Equal(next[0]) {
			t.Errorf("%s fires at %s, and %s is shown", id, st.Next.AsTime(), next[0])
		}
	}
	spread := map[int]int{}
	for _, d := range later {
		spread[int(d/(150*time.Second))]++
	}
	if len(spread) < 4 {
		t.Errorf("by quarters of the time: %v", spread)
	}
	c.to(t, "2026-03-01T07:05:00Z", n)
	for id, d := range later {
		want := uint64(0)
		if d <= 5*time.Minute {
			want = 1
		}
		until(t, id+" has done what is due", func() bool { n.engine.Tick(); return n.unit(automation.KindSchedule, id).Schedule.Firings >= want })
		if got := n.unit(automation.KindSchedule, id).Schedule.Firings; got != want {
			t.Errorf("%s, %s later, has fired %d times after 5 minutes", id, d, got)
		}
	}
}

// Alarms are counted by twin, zone and project, with what they are about; a rule's hysteresis is that of its alarm.
func TestAlarmsByZone(t *testing.T) {
	n := newNode(t)
	n.zone("hq", "")
	n.zone("hq-1", "default/hq")
	n.zone("barn", "")
	n.sensors("a", "b", "c", "d")
	for id, zone := range map[string]string{"a": "hq-1", "b": "hq-1", "c": "barn"} {
		n.update(id, func(tw *pb.Twin) { tw.Zone = "default/" + zone })
	}
	if _, err := n.reg.CreateProject(ctx(t), &pb.ProjectSettings{Project: "other"}); err != nil {
		t.Fatal(err)
	}
	n.rule(`{"id":"hot","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 30","until":"value < 25","then":[{"raise":{"text":"${value}"}}],"otherwise":[{"clear":{}}]}`)
	for _, id := range []string{"a", "b", "c", "d"} {
		n.absorb(id, `{"level":31}`, 0)
	}
	until(t, "all are raised", func() bool { return n.alarms() == "hot.a hot.b hot.c hot.d" })
	if _, err := n.reg.RaiseAlarm(ctx(t), &pb.RaiseAlarmRequest{Id: "other/x", Text: "x"}, "kim"); err != nil {
		t.Fatal(err)
	}
	count := func(project string, active, hq, barn uint32) {
		t.Helper()
		m, err := n.reg.CountAlarms(project, nil)
		if err != nil || m.Active != active || m.ByZone["default/hq-1"] != hq || m.ByZone["default/barn"] != barn {
			t.Errorf("counts of %q: %v, %v", project, m, err)
		}
	}
	count("default", 4, 2, 1)
	count("other", 1, 0, 0)
	count("", 5, 2, 1)
	list, err := n.reg.ListAlarms(&pb.ListAlarmsRequest{Project: "default", Zone: "hq"}, nil)
	if err != nil || len(list.Alarms) != 2 {
		t.Errorf("in the zone and those within: %v, %v", list, err)
	}
	// Between the two bounds nothing changes; below the lower one it clears, and above the upper one it is another coming.
	for _, x := range []struct {
		level  string
		active bool
		raised uint64
	}{{"26", true, 1}, {"33", true, 1}, {"24", false, 1}, {"29", false, 1}, {"31", true, 2}} {
		n.absorb("a", `{"level":`+x.level+`}`, 0)
		until(t, "the alarm is as it should be at "+x.level, func() bool { m := n.alarm("hot.a"); return m.Active == x.active && m.Raised == x.raised })
	}
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "hot.c", Change: &pb.ChangeAlarmRequest_Shelve{Shelve: durationpb.New(time.Hour)}}, "kim")
	n.changeAlarm(&pb.ChangeAlarmRequest{Id: "hot.b", Change: &pb.ChangeAlarmRequest_Clear{Clear: true}}, "kim")
	count("default", 3, 1, 1)
}

// Where models say what a property is, a condition that does not go with it is refused, with the place. Where they do not, or differ, it is taken; and so is
// a rule that is stored, whatever its model became.
func TestConditionFitsItsModel(t *testing.T) {
	n := newNode(t)
	n.sensors("a", "b")
	n.model("switch", thing("Switch", `"on":{"type":"boolean"},"level":{"type":"string"},"count":{"type":"integer"},"any":{"type":"object"}`))
	n.twin(`{"id":"s","model":"switch","labels":{"kind":"switch"}}`)
	on := func(of, name string) string { return `{"property":{"of":{` + of + `},"names":["` + name + `"]}}` }
	a, s := `"twins":["a"]`, `"twins":["s"]`
	for _, x := range []struct{ when, condition, want string }{
		{on(a, "level"), `value > "a"`, "invalid /rule/if: 1:7: > does not go with number and text; level of default/a is a number"},
		{on(a, "level"), `value > 3 &&\n value == "on"`, "invalid /rule/if: 2:8: == does not go with number and text; level of default/a is a number"},
		{on(a, "level"), `value.contains("a")`, "invalid /rule/if: 1:15: contains does not go with number and text; level of default/a is a number"},
		{on(a, "level"), `value.button == 1`, "invalid /rule/if: 1:6: a number has no fields; level of default/a is a number"},
		{on(a, "level"), `value`, "invalid /rule/if: 1:1: it is a number; want what is true or false; level of default/a is a number"},
		{on(s, "on"), `value == 1`, "invalid /rule/if: 1:7: == does not go with true or false and whole number; on of default/s is true or false"},
		{on(`"model":"switch"`, "level"), `value > 1`, "invalid /rule/if: 1:7: > does not go with text and whole number; level of model switch is a text"},
		{on(`"model":"sensor","twins":["b"]`, "other"), `previous + "x" == "x"`, "invalid /rule/if: 1:10: + does not go with number and text; other of default/b is a number"},
		{on(`"labels":{"kind":"sensor"}`, "level"), `value > "a"`, "invalid /rule/if: 1:7: > does not go with number and text; level of default/a is a number"},
		// What goes with it.
		{on(a, "level"), `value > 3 && previous != null && value in [4, 5] && -value < 3 && value != previous && (value == 4 || value * 2 + 1 > 7)`, ""},
		{on(s, "count"), `string(value) == "3" || int(value) % 2 == 1 || math.abs(value) > 3 || math.greatest(value, 2) > 3 || double(value) > 1`, ""},
		{on(a, "level"), `convert(value, "Cel", "[degF]") > 80 || value > twin.properties.other || history("avg", "level", "1h") > value`, ""},
		{on(s, "on"), `value`, ""}, {on(s, "on"), `!value || previous == false || (value ? 1 : 2) == 1`, ""},
		{on(s, "level"), `value.startsWith("x") || size(value) > 3 || value in ["a", "b"] || value + "x" == previous || value > "b"`, ""},
		// What no model tells.
		{on(s, "any"), `value > "a"`, ""}, {on(`"twins":["nobody"]`, "level"), `value > "a"`, ""}, {on(`"model":"nobody"`, "level"), `value > "a"`, ""},
		{on(a, "level_score"), `value > "a"`, ""}, {on(``, "level"), `value > "a"`, ""}, {on(a, "level") + "," + on(s, "level"), `value > "a"`, ""},
		{on(a, "level") + `,{"event":{"of":{"twins":["a"]}}}`, `value.button == 1`, ""}, {`{"property":{"of":{"twins":["a"]}}}`, `value > "a"`, ""},
	} {
		m := &pb.Rule{}
		if err := protojson.Unmarshal([]byte(`{"id":"default/fits","when":[`+x.when+`],"if":"`+strings.ReplaceAll(x.condition, `"`, `\"`)+`","then":[{"stop":true}]}`), m); err != nil {
			t.Fatal(err)
		}
		got := ""
		if _, err := n.reg.CheckRule(m); err != nil {
			got = err.Error()
		}
		if got != x.want {
			t.Errorf("%s of %s: %q, want %q", x.condition, x.when, got, x.want)
		}
	}
	const text = `{"id":"held","when":[{"property":{"of":{"model":"switch"},"names":["level"]}}],"if":"value > \"a\"","then":[{"stop":true}]}`
	m := n.rule(text)
	model, err := n.reg.GetModel("switch")
	if err != nil {
		t.Fatal(err)
	}
	model.ThingJson = thing("Switch", `"level":{"type":"number"}`)
	if _, err := n.reg.UpdateModel(ctx(t), model); err != nil {
		t.Fatal(err)
	}
	m.Paused = true
	if m, err := n.reg.PutRule(ctx(t), m); err != nil || !m.Paused {
		t.Errorf("a stored rule whose model is another: %v", err)
	}
	m.Revision++
	m.If = `value >= "a"`
	if _, err := n.reg.CheckRule(m); err == nil {
		t.Error("another condition is taken")
	}
}

// What a rule names and is not there is told, and does not keep the rule from being there: it may come.
func TestNotesOfARule(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.sensors("a")
	n.system("room", "Sensor_1=a")
	n.model("fixed", thing("Fixed", `"fixed":{"type":"number","readOnly":true}`))
	n.twin(`{"id":"c","model":"fixed"}`)
	notes := func(m *pb.Rule) string { return strings.Join(n.reg.RuleNotes(m), "\n") }
	m := n.rule(`{"id":"wrong","when":[{"property":{"of":{"twins":["a","nobody"]},"names":["levle"]}},{"event":{"of":{"twins":["p"]},"names":["fird"]}}],"then":[
		{"set":{"to":{"twin":"a"},"property":"scene","value":1}},{"set":{"to":{"twin":"c"},"property":"fixed","value":1}},
		{"call":{"to":{"twin":"p"},"action":"conut"}},{"call":{"to":{"system":"room","name":"Blind"},"action":"count"}},
		{"parallel":{"actions":[{"set":{"to":{"system":"hall"},"property":"scene","value":"x"}}]}}]}`)
	if got, want := notes(m), `/rule/when/0: default/a has no property levle; did you mean level?
/rule/when/0: there is no twin default/nobody
/rule/when/1: default/p has no event fird; did you mean fired?
/rule/then/0: default/a does not take this as scene: got number, want string
/rule/then/1: default/c does not take this as fixed: read only
/rule/then/2: default/p has no action conut; did you mean count?
/rule/then/3: default/room has no member Blind
/rule/then/4/parallel/0: there is no system default/hall`; got != want {
		t.Errorf("notes:\n%s\nwant\n%s", got, want)
	}
	for condition, want := range map[string]string{
		`value > \"a\"`: "/rule/if: it can never be computed of level of default/a, whose type is number", `value > 2 && previous < 3`: "",
		`value == \"a\"`: "", `history(\"avg\", \"level\", \"1h\") > value`: "", `value.startsWith(\"x\") || value > 1`: "",
	} {
		m := n.rule(`{"id":"kinds","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}},{"property":{"of":{"twins":["a"]}}}],
			"if":"` + condition + `","then":[{"stop":true}]}`)
		if got := notes(m); got != want {
			t.Errorf("notes of %s: %q, want %q", condition, got, want)
		}
	}
	// A selection that nobody is in would have it wait for ever without a word.
	m = n.rule(`{"id":"for-nobody","when":[{"property":{"of":{"model":"fxied"},"names":["fixed"]}},{"property":{"of":{"model":"fixed"},"names":["fxied"]}},
		{"absent":{"of":{"zone":"attic"},"since":"60s"}},{"event":{"of":{"labels":{"floor":"9"},"interface":"light"}}},{"property":{"of":{"twins":["a"],"model":"fixed"},"names":["level"]}}],"then":[
		{"set":{"to":{"interface":"light"},"property":"power","value":true}},{"call":{"to":{"model":"fixed"},"action":"off"}},{"set":{"to":{"system":"room","model":"fixed"},"property":"scene","value":"x"}}]}`)
	if got, want := notes(m), `/rule/when/0: no twin matches model fxied at present
/rule/when/1: no twin of model fixed has the property fxied; did you mean fixed?
/rule/when/2: there is no zone default/attic
/rule/when/3: no twin matches interface light, label floor=9 at present
/rule/when/4: no twin matches model fixed at present
/rule/then/0: no twin matches interface light at present
/rule/then/1: no twin of model fixed has the action off
/rule/then/2: no twin of default/room matches model fixed at present`; got != want {
		t.Errorf("notes:\n%s\nwant\n%s", got, want)
	}
	m = n.rule(`{"id":"misspelt","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}},{"topic":{"topic":"inn"}}],"if":"twin.properties.levle > 3 || twin.properties.other > 3",
		"then":[{"publish":{"topic":"uot"}},{"logic":{"logic":"filtre"}}]}`)
	if got, want := notes(m), `/rule/if: no twin that it is for has the property levle; did you mean level?
/rule/when/1: there is no topic default/inn
/rule/then/0: there is no topic default/uot
/rule/then/1: there is no logic default/filtre`; got != want {
		t.Errorf("notes:\n%s\nwant\n%s", got, want)
	}
	m = n.rule(`{"id":"others","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"then":[{"stop":true}],
		"if":"twins[\"rom1\"].properties.level > 3 || any(twins(\"a\", \"b1\").level) || count(zone(\"cellar\").twins()) > 1","until":"count(system(\"hall\").twins()) > 1 && twins.a.properties.level > 1"}`)
	if got, want := notes(m), `/rule/if: there is no twin default/rom1
/rule/if: there is no twin default/b1
/rule/if: there is no zone default/cellar
/rule/until: there is no system default/hall`; got != want {
		t.Errorf("notes:\n%s\nwant\n%s", got, want)
	}
	n.zone("attic-2", "")
	for sun, want := range map[string]string{
		`{"zone_id":"attic-2"}`:    "/schedule/timing: it is never due: zone default/attic-2 has no place, nor has one that it is in",
		`{"zone_id":"attic"}`:      "/schedule/timing: there is no zone default/attic",
		`{"twin_id":"a"}`:          "/schedule/timing: it is never due: default/a has no latitude and longitude, and its zone no place",
		`{"twin_id":"nobody"}`:     "/schedule/timing: there is no twin default/nobody",
		`{"place":{"latitude":1}}`: "",
	} {
		m := &pb.Schedule{Id: "default/sun", Timing: &pb.Timing{}}
		if err := protojson.Unmarshal([]byte(`{"sun":`+sun+`}`), m.Timing); err != nil {
			t.Fatal(err)
		}
		if sun := m.Timing.GetSun(); sun.TwinId != "" {
			sun.TwinId = "default/" + sun.TwinId
		} else if sun.ZoneId != "" {
			sun.ZoneId = "default/" + sun.ZoneId
		}
		if got := strings.Join(n.reg.ScheduleNotes(m), "\n"); got != want {
			t.Errorf("notes of a sun %s: %q, want %q", sun, got, want)
		}
	}
	past := n.schedule(`{"id":"past","timing":{"at":"2020-01-01T00:00:00Z"},"actions":[{"set":{"to":{"twin":"a"},"property":"scene","value":"x"}}]}`)
	if got, want := strings.Join(n.reg.ScheduleNotes(past), "\n"), "/schedule/timing/at: it is never due: that was before the schedule was put"; got != want {
		t.Errorf("notes of one that is past: %q, want %q", got, want)
	}
	n.notifier(&pb.Notifier{Id: "out", Kind: &pb.Notifier_Log{Log: &pb.LogNotifier{}}})
	report := n.schedule(`{"id":"report","timing":{"every":{"period":"3600s"}},"actions":[{"notify":{"notifier":"out","attachments":[
		{"name":"a.csv","history":{"of":{"model":"meter"},"properties":["power"]}},{"name":"b.csv","history":{"of":{"twins":["a"]},"properties":["level"]}}]}}]}`)
	if got, want := strings.Join(n.reg.ScheduleNotes(report), "\n"), `/schedule/actions/0/notify/attachments/0: no twin matches model meter at present`; got != want {
		t.Errorf("notes of a report: %s, want %s", got, want)
	}
	m = n.rule(`{"id":"right","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}},{"property":{"of":{"model":"fixed"},"names":["fixed"]}}],"if":"value > 10.0","until":"value < 5.0",
		"then":[{"set":{"to":{"system":"room","name":"Sensor_1"},"property":"scene","value":"x"}},{"set":{"property":"scene","expr":"string(value)"}}]}`)
	if got := notes(m); got != "" {
		t.Errorf("notes of one that is right: %s", got)
	}
	// What it says at present minds that it held before.
	n.absorb("a", `{"level":11}`, 0)
	n.becomes("a", "scene", "11")
	n.absorb("a", `{"level":7}`, 0)
	a := n.evaluated("right", 2)
	if a.Now.Holds || a.Now.Verdict != "holds, as before: until does not" || a.Evaluations[0].Verdict != "holds, as before" {
		t.Errorf("between both bounds: %v, %v", a.Now, a.Evaluations[0])
	}
}
