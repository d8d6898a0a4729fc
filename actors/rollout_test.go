package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// stage uploads a version of the test driver to which no twin goes over by itself.
func (n *node) stage(name, version, transport string, edit func(m map[string]any)) *pb.Driver {
	n.t.Helper()
	m, file := n.driverFile(name, version, transport, edit)
	d, _, err := n.reg.StageDriver(ctx(n.t), m, file, "test")
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

func (n *node) rollout(req *pb.StartRolloutRequest) *pb.Rollout {
	n.t.Helper()
	o, err := n.reg.StartRollout(ctx(n.t), req, "operator")
	if err != nil {
		n.t.Fatal(err)
	}
	return o
}

// reaches waits until the driver's last rollout is in a phase.
func (n *node) reaches(driver string, phase pb.RolloutPhase) *pb.Rollout {
	n.t.Helper()
	var o *pb.Rollout
	until(n.t, "the rollout is "+phase.String(), func() bool {
		var err error
		if o, err = n.reg.GetRollout(driver, 0); err != nil {
			n.t.Fatal(err)
		}
		return o.Phase == phase
	})
	return o
}

// version gives the driver's version that a twin runs.
func (n *node) version(id string) string { return n.state(id).DriverVersion }

// stageBroken uploads a version that cannot be loaded: half of its file is missing.
func (n *node) stageBroken(name, version string) {
	n.t.Helper()
	m, file := n.driverFile(name, version, "", nil)
	if _, _, err := n.reg.StageDriver(ctx(n.t), m, file[:len(file)/2], "test"); err != nil {
		n.t.Fatal(err)
	}
}

func titled(title string) func(map[string]any) { return func(m map[string]any) { m["title"] = title } }

func (n *node) hundred(driver string) (ids []string) {
	for i := range 100 {
		id := fmt.Sprintf("r%02d", i)
		n.twin(fmt.Sprintf(`{"id":%q,"driver":%q}`, id, driver))
		n.must(id, "count", "")
		ids = append(ids, id)
	}
	return ids
}

// A version that does worse is returned, and nobody but the chosen twins ever had it.
func TestRolloutReturnsByItself(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	ids := n.hundred("probe")
	n.stageBroken("probe", "2.0.0")
	if d, err := n.reg.GetDriver("probe", "1.0.0"); err != nil || !d.Current || d.Twins != 100 {
		t.Fatalf("with a staged version beside it: %v, %v", d, err)
	}
	o := n.rollout(&pb.StartRolloutRequest{Driver: "probe", Version: "2.0.0", Steps: []uint32{10, 100}, Soak: durationpb.New(time.Hour)})
	if o.Twins != 100 || o.Chosen < 2 || o.Chosen > 25 || o.Share != 10 {
		t.Fatalf("ten percent of 100 twins: %v", o)
	}
	o = n.reaches("probe", pb.RolloutPhase_ROLLOUT_PHASE_RETURNED)
	if o.Now.Traps < 3 || !strings.Contains(o.Reason, "traps in") || !strings.Contains(o.Reason, "load driver") {
		t.Errorf("the reason: %q, figures %v", o.Reason, o.Now)
	}
	for _, id := range ids {
		// A chosen twin refuses calls until it has heard of the return; a call that was refused has not counted.
		var got string
		until(t, id+" answers again", func() bool {
			var err error
			if got, err = n.invoke(id, "count", ""); err != nil && !errors.Is(err, actors.ErrFault) {
				t.Fatalf("count on %s: %v", id, err)
			}
			return err == nil
		})
		if got != "2" {
			t.Errorf("%s counts %s after the return, want 2", id, got)
		}
		if v := n.version(id); v != "1.0.0" {
			t.Errorf("%s has %s", id, v)
		}
	}
	if d, err := n.reg.GetDriver("probe", "2.0.0"); err != nil || d.Current || d.Twins != 0 {
		t.Errorf("the bad version: %v, %v", d, err)
	}
	if d, err := n.reg.GetDriver("probe", "1.0.0"); err != nil || d.Twins != 100 {
		t.Errorf("the good version: %v, %v", d, err)
	}
	if err := n.reg.DeleteDriver(ctx(t), "probe", "2.0.0"); err != nil {
		t.Errorf("delete the bad version: %v", err)
	}
}

// Step by step all twins get a good version, with their state; then it is the current one, and there is a way back.
func TestRolloutGoesAllTheWay(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	ids := n.hundred("probe")
	n.stage("probe", "2.0.0", "", titled("two"))
	n.rollout(&pb.StartRolloutRequest{Driver: "probe", Version: "2.0.0", Steps: []uint32{20, 60}, Soak: durationpb.New(50 * time.Millisecond)})
	o := n.reaches("probe", pb.RolloutPhase_ROLLOUT_PHASE_PAUSED)
	if o.Share != 60 || o.Chosen < 40 || o.Chosen > 80 {
		t.Errorf("after its last step: %v", o)
	}
	until(t, "the chosen twins have it", func() bool {
		o, _ := n.reg.GetRollout("probe", 0)
		return o.Moved == o.Chosen
	})
	// Versions that come meanwhile wait.
	if m, file := n.driverFile("probe", "3.0.0", "", titled("three")); true {
		if _, _, err := n.reg.PutDriver(ctx(t), m, file, "test"); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := n.reg.GetDriver("probe", "3.0.0"); err != nil || d.Current || d.Twins != 0 {
		t.Errorf("uploaded during a rollout: %v, %v", d, err)
	}
	if _, err := n.reg.StartRollout(ctx(t), &pb.StartRolloutRequest{Driver: "probe", Version: "3.0.0"}, "x"); !errors.Is(err, actors.ErrNotNow) {
		t.Errorf("a second rollout: %v", err)
	}
	var used *actors.InUseError
	if err := n.reg.DeleteDriver(ctx(t), "probe", "1.0.0"); !errors.As(err, &used) {
		t.Errorf("delete of the version to return to: %v", err)
	}
	n.rollout(&pb.StartRolloutRequest{Driver: "probe", Version: "2.0.0", Steps: []uint32{100}, Soak: durationpb.New(50 * time.Millisecond)})
	o = n.reaches("probe", pb.RolloutPhase_ROLLOUT_PHASE_DONE)
	if o.Number != 1 || o.FromVersion != "1.0.0" {
		t.Errorf("done: %v", o)
	}
	for _, id := range ids {
		n.wait(id, "migrated", `"1.0.0"`)
		if got := n.must(id, "count", ""); got != "2" {
			t.Errorf("%s counts %s", id, got)
		}
	}
	if _, err := n.reg.Rollback(ctx(t), "probe", "", "operator"); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		n.wait(id, "migrated", `"2.0.0"`)
	}
	all, err := n.reg.ListRollouts("probe")
	if err != nil || len(all) != 2 || all[0].Version != "1.0.0" || all[0].Reason != "rolled back by operator" {
		t.Errorf("rollouts: %v, %v", all, err)
	}
	if _, err := n.reg.Rollback(ctx(t), "probe", "1.0.0", "operator"); !errors.Is(err, actors.ErrNotNow) {
		t.Errorf("back to what it is: %v", err)
	}
}

// Commands that fail count as well, and somebody can halt or end a rollout.
func TestRolloutByFailures(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"old","driver":"probe","labels":{"floor":"1"}}`)
	n.twin(`{"id":"new","driver":"probe","labels":{"floor":"2"}}`)
	n.wait("old", "reason", `"start"`)
	n.wait("new", "reason", `"start"`)
	n.stage("probe", "1.1.0", "", titled("new"))
	o := n.rollout(&pb.StartRolloutRequest{Driver: "probe", Selector: &pb.RolloutSelector{Labels: map[string]string{"floor": "2"}},
		Version: "1.1.0", Limits: &pb.RolloutLimits{MinFailures: 4}})
	if o.Chosen != 1 || o.Twins != 2 {
		t.Errorf("by label: %v", o)
	}
	n.wait("new", "migrated", `"1.0.0"`)
	if o, err := n.reg.HaltRollout(ctx(t), "probe", "operator"); err != nil || o.Phase != pb.RolloutPhase_ROLLOUT_PHASE_PAUSED || o.Reason != "halted by operator" {
		t.Errorf("halt: %v, %v", o, err)
	}
	for range 4 {
		if _, err := n.invoke("old", "fail", `{"text":"as ever"}`); err == nil {
			t.Fatal("fail did not fail")
		}
		if _, err := n.invoke("new", "fail", `{"text":"as ever"}`); err == nil {
			t.Fatal("fail did not fail")
		}
	}
	until(t, "both are counted", func() bool {
		o, err := n.reg.GetRollout("probe", 0)
		return err == nil && o.Now.Failures == 4 && o.Before.Failures == 4
	})
	if o, _ := n.reg.GetRollout("probe", 0); o.Phase != pb.RolloutPhase_ROLLOUT_PHASE_PAUSED {
		t.Errorf("what fails as often as before is no reason: %v", o)
	}
	for range 20 {
		n.must("old", "count", "")
		_, _ = n.invoke("new", "fail", `{"text":"worse"}`)
	}
	o = n.reaches("probe", pb.RolloutPhase_ROLLOUT_PHASE_RETURNED)
	if !strings.Contains(o.Reason, "failures in") || !strings.Contains(o.Reason, "worse") {
		t.Errorf("reason: %s", o.Reason)
	}
	n.wait("new", "migrated", `"1.1.0"`)
}

func TestRolloutByZone(t *testing.T) {
	n := newNode(t)
	for _, z := range []*pb.Zone{{Id: "hq"}, {Id: "level1", Parent: "hq"}, {Id: "annex"}} {
		if _, err := n.reg.PutZone(ctx(t), z); err != nil {
			t.Fatal(err)
		}
	}
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"in","driver":"bus","zone":"level1","settings":{"topic":"in"}}`)
	n.twin(`{"id":"out","driver":"bus","zone":"annex","settings":{"topic":"out"}}`)
	other := strings.ReplaceAll(mqttTransport, "dev/{topic}/+", "new/{topic}/+")
	n.stage("bus", "2.0.0", other, titled("with other topics"))
	o := n.rollout(&pb.StartRolloutRequest{Driver: "bus", Version: "2.0.0", Selector: &pb.RolloutSelector{Zone: "hq"}})
	if o.Chosen != 1 {
		t.Errorf("by zone: %v", o)
	}
	n.deliver("new/in/x", `{"level":1}`, 1)
	n.wait("in", "level", "1")
	n.deliver("dev/out/x", `{"level":1}`, 1)
	n.wait("out", "level", "1")
	if d, err := n.reg.GetDriver("bus", "2.0.0"); err != nil || d.Twins != 1 {
		t.Errorf("twins of the new version: %v, %v", d, err)
	}
	if _, err := n.reg.Rollback(ctx(t), "bus", "", "operator"); err != nil {
		t.Fatal(err)
	}
	n.deliver("dev/in/x", `{"level":2}`, 1)
	n.wait("in", "level", "2")
	for _, c := range []struct {
		req  *pb.StartRolloutRequest
		want string
	}{
		{&pb.StartRolloutRequest{Driver: "bus", Version: "2.0.0", Steps: []uint32{50, 20}}, "invalid /steps/1: 20: percentages rise, from 1 to 100"},
		{&pb.StartRolloutRequest{Driver: "bus", Version: "2.0.0", Steps: []uint32{5}, Selector: &pb.RolloutSelector{Zone: "hq"}}, "give one of both"},
		{&pb.StartRolloutRequest{Driver: "bus", Version: "2.0.0", Selector: &pb.RolloutSelector{}}, "is empty"},
		{&pb.StartRolloutRequest{Driver: "bus", Version: "2.0.0", Selector: &pb.RolloutSelector{Zone: "nowhere"}}, "there is no zone default/nowhere"},
		{&pb.StartRolloutRequest{Driver: "bus", Version: "9.0.0"}, "not found"},
		{&pb.StartRolloutRequest{Driver: "bus", Version: "1.0.0"}, "have 1.0.0 already"},
	} {
		if _, err := n.reg.StartRollout(ctx(t), c.req, "x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.req, err, c.want)
		}
	}
}

// The nodes count together, and the decision is made also where the node that would have made it is gone.
func TestRolloutSurvivesItsNode(t *testing.T) {
	a, b := pairLeased(t, 0)
	name := ""
	for i := 0; name == "" || a.owner("rollout/"+name) != "n2"; i++ {
		name = fmt.Sprintf("probe%d", i)
	}
	a.driver(name, "1.0.0", "")
	for i := range 20 {
		a.twin(fmt.Sprintf(`{"id":"t%d","driver":%q}`, i, name))
		a.must(fmt.Sprintf("t%d", i), "count", "")
	}
	a.stage(name, "2.0.0", "", titled("two"))
	a.rollout(&pb.StartRolloutRequest{Driver: name, Version: "2.0.0", Steps: []uint32{100}, Soak: durationpb.New(15 * time.Second)}) // long enough for both to count
	until(t, "both nodes' calls are counted", func() bool {
		for i := range 20 {
			a.must(fmt.Sprintf("t%d", i), "count", "")
		}
		tallies := 0
		for range a.store.Scan("tally", name+"/", "") {
			tallies++
		}
		return tallies == 2
	})
	b.close()
	a.reaches(name, pb.RolloutPhase_ROLLOUT_PHASE_DONE)
}

// All twins that implement an interface in a place, or in a system, are found by it.
func TestTwinsByInterface(t *testing.T) {
	n := newNode(t)
	n.driverWith("switch", "1.0.0", "", func(m map[string]any) { m["interfaces"] = []string{"Switchable"} })
	n.driver("probe", "1.0.0", "")
	if _, err := n.reg.PutZone(ctx(t), &pb.Zone{Id: "hall"}); err != nil {
		t.Fatal(err)
	}
	n.twin(`{"id":"a","driver":"switch","zone":"hall"}`)
	n.twin(`{"id":"b","driver":"switch"}`)
	n.twin(`{"id":"c","driver":"probe","zone":"hall"}`)
	if _, err := n.reg.PutSystem(ctx(t), &pb.System{Id: "room", Members: []*pb.System_Member{{Name: "Switch_1", Twin: "b"}, {Name: "Probe_1", Twin: "c"}}}); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]*pb.TwinFilter{
		"default/a default/b": {Interface: "Switchable"},
		"default/a":           {Interface: "Switchable", Zone: "default/hall"},
		"default/b":           {Interface: "Switchable", System: "room"},
		"default/b default/c": {System: "default/room"},
		"":                    {Interface: "Cover"},
	} {
		list, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: f}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, tw := range list.Twins {
			ids = append(ids, tw.Id)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
	if by, err := n.reg.Implementers(); err != nil || len(by["Switchable"]) != 1 || by["Switchable"][0] != "switch" {
		t.Errorf("implementers: %v, %v", by, err)
	}
}

// What a node counted before it was started again counts.
func TestRolloutSurvivesARestart(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.must("a", "count", "")
	n.stage("probe", "1.1.0", "", titled("new"))
	n.rollout(&pb.StartRolloutRequest{Driver: "probe", Version: "1.1.0", Selector: &pb.RolloutSelector{Ids: []string{"a"}},
		Limits: &pb.RolloutLimits{MinFailures: 6}})
	n.wait("a", "migrated", `"1.0.0"`)
	fail := func() {
		for range 3 {
			if _, err := n.invoke("a", "fail", `{"text":"no"}`); err == nil {
				t.Fatal("fail did not fail")
			}
		}
	}
	fail()
	until(t, "three are written down", func() bool { o, err := n.reg.GetRollout("probe", 0); return err == nil && o.Now.Failures == 3 })
	n.close()
	n = open(t, fs, 2)
	n.must("a", "count", "")
	if v := n.version("a"); v != "1.1.0" {
		t.Errorf("after the restart it has %s", v)
	}
	fail()
	if o := n.reaches("probe", pb.RolloutPhase_ROLLOUT_PHASE_RETURNED); o.Now.Failures != 6 {
		t.Errorf("it ended with %v", o.Now)
	}
}
