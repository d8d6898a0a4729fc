package actors_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/automation"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// deleteTwin removes a twin and waits until nothing of it is left.
func (n *node) deleteTwin(id string) {
	n.t.Helper()
	if err := n.reg.DeleteTwin(ctx(n.t), id, 0); err != nil {
		n.t.Fatal(err)
	}
	until(n.t, id+" is gone", func() bool { return n.records("gone", "") == 0 && n.records("outbox", "") == 0 })
}

// A rule does nothing by time for a twin that is gone, and has no state of it for the next one of its id.
func TestRuleOfATwinMadeAnew(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a", "b", "log")
	n.rule(`{"id":"again","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 10","repeat":"30s",
		"then":[{"set":{"to":{"twin":"log"},"property":"echo","expr":"value"}}]}`)
	n.rule(`{"id":"long","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 10","for":"60s",
		"then":[{"set":{"to":{"twin":"log"},"property":"scene","value":"long"}}]}`)
	n.rule(`{"id":"both","when":[{"property":{"of":{"twins":["a","b"]},"names":["level"]}}],"if":"value > 10","atLeast":2,
		"then":[{"set":{"to":{"twin":"log"},"property":"scene","value":"both"}}]}`)
	n.absorb("a", `{"level":11}`, 0)
	for _, id := range []string{"again", "long", "both"} {
		n.evaluated(id, 1)
	}
	fired := func(id string) uint64 { n.engine.Tick(); return n.unit(automation.KindRule, id).Rule.Firings }
	until(t, "it acts", func() bool { return fired("again") == 1 })
	n.deleteTwin("a")
	c.to(t, "2026-03-01T07:01:30Z", n)
	until(t, "what waited for the twin is forgotten", func() bool {
		n.engine.Tick()
		return n.unit(automation.KindRule, "long").Rule.Pending == 0 && n.unit(automation.KindRule, "again").Rule.Active == 0
	})
	if a, l := fired("again"), fired("long"); a != 1 || l != 0 {
		t.Errorf("for a twin that is gone they fired %d and %d times", a-1, l)
	}
	n.sensors("a")
	n.absorb("b", `{"level":11}`, 0)
	n.evaluated("both", 2)
	if got := fired("both"); got != 0 {
		t.Error("a twin counts that has said nothing yet")
	}
	n.absorb("a", `{"level":12}`, 0)
	until(t, "it acts for the new one", func() bool { return fired("again") == 2 && fired("both") == 1 })
	until(t, "it is done", func() bool { return n.state("log").Properties["echo"].GetValue().GetNumberValue() == 12 })
	// Deleted and made again before the rule hears of either.
	n.deleteTwin("a")
	c.to(t, "2026-03-01T07:01:31Z", n)
	n.sensors("a")
	n.absorb("a", `{"level":13}`, 0)
	until(t, "it acts for that, too", func() bool { return fired("again") == 3 })
}

// Who waits for a twin to be silent waits from when it was made.
func TestSilenceOfANewTwin(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("log")
	n.rule(`{"id":"silent","when":[{"absent":{"of":{"labels":{"kind":"sensor"}},"property":"level","since":"600s"}}],"if":"twin.name != 'log'",
		"then":[{"set":{"to":{"twin":"log"},"property":"scene","expr":"twin.name + ' is silent'"}}]}`)
	n.evaluated("silent", 0)
	c.to(t, "2026-03-01T07:30:00Z", n)
	until(t, "log itself is silent", func() bool { n.engine.Tick(); return n.unit(automation.KindRule, "silent").Rule.Evaluations == 1 })
	n.sensors("late")
	was := n.unit(automation.KindRule, "silent").Rule.Evaluations
	for _, at := range []string{"07:31:30", "07:33:00", "07:39:00"} {
		c.to(t, "2026-03-01T"+at+"Z", n)
		n.engine.Tick()
		if a := n.unit(automation.KindRule, "silent"); a.Rule.Evaluations != was {
			t.Fatalf("at %s it waits no longer: %v", at, a.Evaluations[0])
		}
	}
	c.to(t, "2026-03-01T07:41:00Z", n)
	until(t, "it was silent for ten minutes", func() bool { n.engine.Tick(); return n.text("log", "scene") == "late is silent" })
}

// A rule or schedule that is deleted and made again begins from nothing, and what it does is not taken for what the one before did.
func TestRuleMadeAnew(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"p","driver":"probe"}`)
	n.sensors("a")
	counted := func(want string) {
		t.Helper()
		until(t, "the probe has counted "+want, func() bool { return n.committed("p", "count") == want })
	}
	const rule = `{"id":"r","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 10","then":[{"call":{"to":{"twin":"p"},"action":"count"}},{"raise":{"alarm":"x"}}]}`
	done := func() { // and not only the call, behind which the alarm is raised
		t.Helper()
		until(t, "its run is its first", func() bool {
			a := n.unit(automation.KindRule, "r")
			return len(a.Runs) == 1 && a.Runs[0].Number == 1 && a.Runs[0].State == pb.RunState_RUN_STATE_DONE && a.Rule.Firings == 1
		})
	}
	n.rule(rule)
	n.absorb("a", `{"level":11}`, 0)
	counted("1")
	done()
	for i, life := range []string{"2", "3"} {
		if err := n.reg.DeleteRule(ctx(t), "r"); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // else the new one is there before anybody has looked
			until(t, "what it left is gone", func() bool {
				return n.records("unit", "rule/")+n.records("run", "rule/")+n.records("instance", "") == 0
			})
		}
		n.rule(rule)
		n.absorb("a", `{"level":`+life+`1}`, 0)
		counted(life)
		done()
	}
	if m := n.alarm(n.alarms()); m.Told != 3 {
		t.Errorf("the alarm was told %d times, want 3", m.Told)
	}
}

// A deleted rule leaves nothing, however many twins it had a state of.
func TestDeletedRuleLeavesNothing(t *testing.T) {
	n := newNode(t)
	n.sensors("a")
	n.rule(`{"id":"r","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 10","then":[{"raise":{}}]}`)
	n.evaluated("r", 0)
	value, err := proto.Marshal(&actorv1.Instance{Active: true, Seen: "0"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		txn := &storage.Txn{}
		for j := range 500 {
			txn.Writes = append(txn.Writes, storage.Write{Table: "instance", Key: fmt.Sprintf("rule/default/r\x00default/s%d", 500*i+j), Value: value})
		}
		if _, err := n.store.Commit(ctx(t), txn); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.reg.DeleteRule(ctx(t), "r"); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing is left", func() bool { return n.records("instance", "")+n.records("unit", "rule/")+n.records("wake", "") == 0 })
}
