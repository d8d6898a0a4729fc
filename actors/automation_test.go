package actors_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// sensor is a model with a number that devices send and a word that is whatever it is asked to be.
const sensor = `"level":{"type":"number"},"other":{"type":"number"},"scene":{"type":"string","pollux:virtual":true},"echo":{"type":"number","pollux:virtual":true}`

func (n *node) sensors(ids ...string) {
	n.t.Helper()
	if _, err := n.reg.GetModel("sensor"); err != nil {
		n.model("sensor", thing("Sensor", sensor))
	}
	for _, id := range ids {
		n.twin(fmt.Sprintf(`{"id":%q,"model":"sensor","labels":{"kind":"sensor"}}`, id))
	}
}

// rule makes or changes a rule that is given as JSON.
func (n *node) rule(text string) *pb.Rule {
	n.t.Helper()
	m := &pb.Rule{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		n.t.Fatalf("%s: %v", text, err)
	}
	if old, err := n.reg.Rule(m.Id); err == nil {
		m.Revision = old.Revision
	}
	m, err := n.reg.PutRule(ctx(n.t), m)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

func (n *node) schedule(text string) *pb.Schedule {
	n.t.Helper()
	m := &pb.Schedule{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		n.t.Fatalf("%s: %v", text, err)
	}
	m, err := n.reg.PutSchedule(ctx(n.t), m)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

func (n *node) unit(kind, id string) *actorv1.UnitAnswer {
	n.t.Helper()
	a, err := n.client.Automation().State(ctx(n.t), kind, "default/"+id, &actorv1.UnitQuery{Runs: true, Why: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

// text gives a property that is a text, or "".
func (n *node) text(id, property string) string {
	return n.state(id).Properties[property].GetValue().GetStringValue()
}

func (n *node) becomes(id, property, want string) {
	n.t.Helper()
	until(n.t, fmt.Sprintf("%s of %s is %q", property, id, want), func() bool { return n.text(id, property) == want })
}

// evaluated waits until a rule has been evaluated so often.
func (n *node) evaluated(id string, times uint64) *actorv1.UnitAnswer {
	n.t.Helper()
	var a *actorv1.UnitAnswer
	until(n.t, fmt.Sprintf("rule %s was evaluated %d times", id, times), func() bool {
		a = n.unit(automation.KindRule, id)
		return a.Rule.Evaluations >= times
	})
	return a
}

// A property of one twin sets another one's: once where the condition begins to hold, once where it ceases to. Why says what was seen.
func TestRuleOnAProperty(t *testing.T) {
	n := newNode(t)
	n.sensors("a", "b", "c")
	n.rule(`{"id":"hot","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 25","until":"value < 20",
		"then":[{"set":{"to":{"twin":"b"},"property":"scene","expr":"'hot ' + string(value)"}}],
		"otherwise":[{"set":{"to":{"twin":"b"},"property":"scene","value":"cool"}}]}`)
	n.absorb("a", `{"level":21}`, 0)
	n.absorb("c", `{"level":99}`, 0)
	a := n.evaluated("hot", 1)
	if v := a.Evaluations[0]; v.Holds || v.Verdict != "does not hold" || v.Subject != "default/a" || v.Values["value"] != "21" {
		t.Errorf("the first evaluation: %v", v)
	}
	n.absorb("a", `{"level":26}`, 0)
	n.becomes("b", "scene", "hot 26")
	n.absorb("a", `{"level":27}`, 0) // as before
	n.absorb("a", `{"level":22}`, 0) // not below 20 yet
	a = n.evaluated("hot", 4)
	if got := n.text("b", "scene"); got != "hot 26" || a.Rule.Active != 1 || a.Rule.Firings != 1 {
		t.Errorf("scene %q; %v", got, a.Rule)
	}
	n.absorb("a", `{"level":19}`, 0)
	n.becomes("b", "scene", "cool")
	until(t, "both runs are done", func() bool {
		a = n.unit(automation.KindRule, "hot")
		return len(a.Runs) == 2 && a.Runs[0].State == pb.RunState_RUN_STATE_DONE && a.Runs[1].State == pb.RunState_RUN_STATE_DONE
	})
	run := a.Runs[1]
	if run.Cause != "level = 26" || run.Subject != "default/a" || run.Values["previous"] != "21" || run.Steps[0].State != pb.StepState_STEP_STATE_DONE ||
		run.Steps[0].Tries != 1 {
		t.Errorf("the run: %v", run)
	}
	if d := n.state("b").Desired["scene"]; d.GetBy() != "rule/default/hot" {
		t.Errorf("who asked for it: %v", d)
	}
	if a.Now == nil || a.Now.Holds || a.Now.Values["value"] != "19" {
		t.Errorf("what it says now: %v", a.Now)
	}
	if err := n.reg.DeleteRule(ctx(t), "hot"); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"unit", "instance", "run"} {
		until(t, "nothing is left in "+table, func() bool { return n.records(table, "rule/default/hot") == 0 })
	}
}

// records counts the records of a table whose keys begin so.
func (n *node) records(table, prefix string) int {
	c, err := n.store.Count(storage.Table(table), prefix)
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// A schedule calls a twin as often as it is due, and says when it is due next.
func TestScheduleCallsATwin(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.schedule(`{"id":"often","timing":{"every":{"period":"0.2s"}},"actions":[{"call":{"to":{"twin":"p"},"action":"count"}}]}`)
	var a *actorv1.UnitAnswer
	until(t, "it has fired five times", func() bool { a = n.unit(automation.KindSchedule, "often"); return a.Schedule.Firings >= 5 })
	if a.Schedule.Next == nil || a.Schedule.Last == nil || a.Schedule.Node != "n1" {
		t.Errorf("state: %v", a.Schedule)
	}
	m, err := n.reg.Schedule("often")
	if err != nil {
		t.Fatal(err)
	}
	m.Paused = true
	if _, err := n.reg.PutSchedule(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	until(t, "it rests", func() bool {
		a = n.unit(automation.KindSchedule, "often")
		return a.Schedule.Next == nil && len(a.Runs) > 0 && a.Runs[0].State == pb.RunState_RUN_STATE_DONE
	})
	if got := n.must("p", "count", ""); got != fmt.Sprint(a.Schedule.Firings+1) {
		t.Errorf("%d firings, and the twin counts %s", a.Schedule.Firings, got)
	}
	res, err := n.reg.CancelSchedules(ctx(t), "p")
	if err != nil || len(res.Ids) != 1 || len(res.Left) != 0 {
		t.Errorf("cancelled: %v, %v", res, err)
	}
	until(t, "nothing is left", func() bool {
		return n.records("unit", "") == 0 && n.records("run", "") == 0 && n.records("wake", "") == 0
	})
}

// Cancelling removes what names the twin, however deep, and says what else acts on it at times; what is for others is neither removed nor told.
func TestCancelTellsWhatIsLeft(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.zone("hq", "")
	n.zone("hall", "hq")
	n.twin(`{"id":"p","driver":"probe","zone":"hall","labels":{"kind":"lamp"}}`)
	n.twin(`{"id":"q","driver":"probe"}`)
	n.system("room", "Lamp_1=p", "Blind_1=q")
	count := func(to string) string { return `{"call":{"to":` + to + `,"action":"count"}}` }
	for id, do := range map[string]string{
		"deep":      `{"parallel":{"actions":[` + count(`{"twin":"q"}`) + `,` + count(`{"twin":"p"}`) + `]}}`,
		"by-zone":   count(`{"zone":"hq"}`),
		"by-label":  count(`{"labels":{"kind":"lamp"}}`),
		"by-system": count(`{"system":"room"}`),
		"by-name":   count(`{"system":"room","name":"Lamp"}`),
		"blinds":    count(`{"system":"room","name":"Blind"}`),
		"others":    count(`{"zone":"hq","labels":{"kind":"fan"}}`),
	} {
		n.schedule(`{"id":"` + id + `","timing":{"cron":"0 0 1 1 *"},"actions":[` + do + `]}`)
	}
	yearly := `{"schedule":{"cron":"0 0 1 1 *"}}`
	n.rule(`{"id":"timed","when":[` + yearly + `],"then":[` + count(`{"twin":"p"}`) + `]}`)
	n.rule(`{"id":"seen","when":[{"property":{"of":{"twins":["q"]},"names":["x"]}}],"then":[` + count(`{"twin":"p"}`) + `]}`)

	list, err := n.reg.ListSchedules(&pb.ListSchedulesRequest{Project: "default", Twin: "p"}, nil)
	if err != nil || len(list.Schedules) != 5 {
		t.Errorf("of the twin are %d schedules, %v", len(list.GetSchedules()), err)
	}
	res, err := n.reg.CancelSchedules(ctx(t), "p")
	if err != nil || !slices.Equal(res.Ids, []string{"default/deep"}) {
		t.Fatalf("cancelled: %v, %v", res, err)
	}
	var left []string
	for _, u := range res.Left {
		left = append(left, u.Kind+" "+u.Id+": "+u.Reason)
	}
	slices.Sort(left)
	if got, want := strings.Join(left, "\n"), `rule default/timed: its name
schedule default/by-label: label kind=lamp
schedule default/by-name: Lamp of system default/room
schedule default/by-system: system default/room
schedule default/by-zone: zone default/hq`; got != want {
		t.Errorf("left:\n%s\nwant\n%s", got, want)
	}
}

// handClock is a clock that the test moves.
type handClock struct {
	mu  sync.Mutex
	at  time.Time
	fns []*alarm
}

type alarm struct {
	at   time.Time
	fn   func()
	done bool
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) AfterFunc(d time.Duration, fn func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &alarm{at: c.at.Add(d), fn: fn}
	c.fns = append(c.fns, a)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := a.done
		a.done = true
		return !was
	}
}

// to moves the clock, also back, which a Clock of twins must not be; nothing in these tests minds.
func (c *handClock) to(t *testing.T, text string, n *node) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.at = at
	var due []*alarm
	for _, a := range c.fns {
		if !a.done && !a.at.After(at) {
			a.done = true
			due = append(due, a)
		}
	}
	c.mu.Unlock()
	for _, a := range due {
		go a.fn()
	}
	n.engine.Tick()
}

func clocked(t *testing.T, at string) (*node, *handClock) {
	c := &handClock{}
	c.at, _ = time.Parse(time.RFC3339, at)
	return newNode(t, func(o *actors.Options) { o.Clock = c }), c
}

// What is missed while nobody is there is made up for as the schedule says; a clock that goes back fires nothing twice.
func TestMissedFirings(t *testing.T) {
	n, c := clocked(t, "2026-03-01T06:59:00Z")
	for _, policy := range []string{"MISSED_SKIP", "MISSED_ONCE", "MISSED_ALL"} {
		n.schedule(fmt.Sprintf(`{"id":%q,"timing":{"cron":"0 7 * * *"},"missed":%q,"actions":[{"mqtt":{"topic":"fired","payload":"${rule}"}}]}`,
			strings.ToLower(policy), policy))
	}
	check := func(what string, skip, once, all uint64) {
		t.Helper()
		for id, want := range map[string]uint64{"missed_skip": skip, "missed_once": once, "missed_all": all} {
			var a *actorv1.UnitAnswer
			until(t, fmt.Sprintf("%s: %s has fired %d times", what, id, want), func() bool {
				n.engine.Tick()
				a = n.unit(automation.KindSchedule, id)
				return a.Schedule.Firings >= want && len(a.Runs) == int(min(want, 20)) && (want == 0 || a.Runs[0].State == pb.RunState_RUN_STATE_DONE)
			})
			if a.Schedule.Firings != want {
				t.Errorf("%s: %s fired %d times, want %d", what, id, a.Schedule.Firings, want)
			}
		}
	}
	check("before", 0, 0, 0)
	c.to(t, "2026-03-01T07:00:00Z", n)
	check("in time", 1, 1, 1)
	c.to(t, "2026-03-05T06:00:00Z", n) // three are missed
	check("after some days", 1, 2, 4)
	c.to(t, "2026-03-04T06:00:00Z", n) // the clock goes back by a day
	check("back", 1, 2, 4)
	c.to(t, "2026-03-04T07:00:05Z", n)
	check("what was fired is not fired again", 1, 2, 4)
	c.to(t, "2026-03-05T07:00:20Z", n)
	check("and on", 2, 3, 5)
	if a := n.unit(automation.KindSchedule, "missed_skip"); a.Schedule.Missed != 3 {
		t.Errorf("missed: %d", a.Schedule.Missed)
	}
}

// A restart in the middle of a run: it goes on where it was, after its wait, and does nothing twice.
func TestRunsSurviveARestart(t *testing.T) {
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.sensors("s")
	n.rule(`{"id":"r","when":[{"property":{"of":{"twins":["s"]},"names":["level"]}}],"if":"value > 1","then":[{"call":{"to":{"twin":"p"},"action":"count"}},
		{"wait":"2s"},{"call":{"to":{"twin":"p"},"action":"count"}},{"set":{"property":"scene","value":"done"}}]}`)
	n.absorb("s", `{"level":2}`, 0)
	until(t, "the first action is done", func() bool {
		a := n.unit(automation.KindRule, "r")
		return len(a.Runs) == 1 && a.Runs[0].Steps[1].State == pb.StepState_STEP_STATE_WAITING
	})
	n.close() // as a crash does
	n = open(t, fs, 2)
	n.becomes("s", "scene", "done")
	until(t, "the run is done", func() bool {
		a := n.unit(automation.KindRule, "r")
		return len(a.Runs) == 1 && a.Runs[0].State == pb.RunState_RUN_STATE_DONE
	})
	if got := n.must("p", "count", ""); got != "3" {
		t.Errorf("the twin counts %s", got)
	}
}
