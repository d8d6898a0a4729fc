package actors_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// climb is a scenario that ends: level 0 to 100 in a hundred steps, for some twins.
const climb = "name: sim-{n}\ncount: 20\nevery: 10s\nlength: 1000s\nrepeat: false\nvalues: {level: {keys: {0s: 0, 1000s: 100}}}"

func (n *node) simulation(id string) *pb.Simulation {
	n.t.Helper()
	m, err := n.reg.Simulation(id)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

func (n *node) steer(req *pb.SteerSimulationsRequest) {
	n.t.Helper()
	req.Project = "default"
	if _, err := n.reg.SteerSimulations(ctx(n.t), req); err != nil {
		n.t.Fatal(err)
	}
}

// A simulation makes its twins and feeds them as devices would; it stands, goes on where it stood, and begins again.
func TestSimulation(t *testing.T) {
	n := newNode(t)
	n.sensors()
	if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: "climb", Scenario: climb, Model: "sensor", Speed: proto.Float64(0)}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is over", func() bool { return n.simulation("climb").State.Ended })
	s := n.simulation("climb").State
	if s.Steps != 101 || s.Sent != 2020 || s.Stored != 2020 || s.Refused+s.Duplicate+s.Skipped+s.Inbox != 0 || s.Twins != 20 || s.At.AsDuration() != 1000*time.Second || s.Error != "" {
		t.Errorf("it is at %v", s)
	}
	if v := n.state("default/sim-20").Properties["level"].GetValue().GetNumberValue(); v != 100 {
		t.Errorf("level is %v", v)
	}
	if x := n.counts("simulation"); x.Stored != 2020 || x.InFlight != 0 {
		t.Errorf("counted %v", x)
	}

	// At a speed it stands and goes on; what it did is counted once.
	n.steer(&pb.SteerSimulationsRequest{Speed: proto.Float64(100), Reset_: true})
	until(t, "it runs", func() bool { return n.simulation("climb").State.Steps > 3 })
	n.steer(&pb.SteerSimulationsRequest{Ids: []string{"climb"}, Paused: proto.Bool(true)})
	stood := uint64(0)
	until(t, "it stands", func() bool {
		was := stood
		stood = n.simulation("climb").State.Steps
		return stood == was && n.counts("simulation").InFlight == 0
	})
	n.steer(&pb.SteerSimulationsRequest{Ids: []string{"climb"}, Paused: proto.Bool(false), Speed: proto.Float64(0)})
	until(t, "it is over again", func() bool { return n.simulation("climb").State.Ended })
	s = n.simulation("climb").State
	if s.Sent+s.Skipped != 2020 || s.Stored+s.Duplicate != s.Sent || s.Duplicate > 20 || s.Steps != 101 || stood == 0 || stood > 101 {
		t.Errorf("it stood at %d, and is at %v", stood, s)
	}
	if x := n.counts("simulation"); x.Stored != 2020+s.Sent {
		t.Errorf("counted %v", x)
	}

	// An unchanged scenario goes on where it is, another one begins.
	m := n.simulation("climb")
	m.Title = "Climb"
	m, err := n.reg.UpdateSimulation(ctx(t), m)
	if err != nil || !m.State.Ended {
		t.Fatalf("%v, %v", m, err)
	}
	m.Scenario = strings.Replace(climb, "sim-{n}", "other-{n}", 1) // no such twins
	m.Model = ""
	if m, err = n.reg.UpdateSimulation(ctx(t), m); err != nil || m.State.Steps != 0 {
		t.Fatalf("%v, %v", m, err)
	}
	until(t, "it is over, and was refused", func() bool {
		s := n.simulation("climb").State
		return s.Ended && s.Refused == 2020 && strings.Contains(s.Error, "there is no twin default/other-")
	})
	if err := n.reg.DeleteSimulation(ctx(t), "climb"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: "climb", Scenario: climb, Paused: true}); err != nil {
		t.Fatal(err)
	}
	if s := n.simulation("climb").State; s.Steps != 0 || s.Stored != 0 {
		t.Errorf("a new one is at %v", s)
	}
}

// After a crash a simulation goes on: nothing is missing, and nothing is stored twice.
func TestSimulationOverACrash(t *testing.T) {
	disk := vfs.NewCrashableMem()
	n := open(t, disk, 1)
	n.sensors()
	if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: "climb", Scenario: strings.Replace(climb, "1000s: 100", "1000s: 1000", 1), Model: "sensor",
		Speed: proto.Float64(300)}); err != nil {
		t.Fatal(err)
	}
	until(t, "it runs", func() bool { return n.simulation("climb").State.Steps > 3 })
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, crashed, 2)
	until(t, "it goes on", func() bool { return n.simulation("climb").State.Steps > 10 })
	n.steer(&pb.SteerSimulationsRequest{Speed: proto.Float64(0)})
	until(t, "it is over", func() bool { return n.simulation("climb").State.Ended })
	s := n.simulation("climb").State
	if x := n.counts("simulation"); x.Stored+s.Skipped != 2020 || x.Refused != 0 {
		t.Errorf("stored %v; it is at %v", x, s)
	}
}

// Twins of several models are told the same values, each where its own model has them and in its own devices' unit; also one that is made meanwhile.
func TestSimulationOfSeveralModels(t *testing.T) {
	n := newNode(t)
	n.model("plain", thing("Plain", `"level":{"type":"number","unit":"W"}`))
	n.model("deep", thing("Deep", `"level":{"type":"number","unit":"W","pollux:path":"a.b","pollux:unit":"kW"}`))
	n.twin(`{"id":"flat","model":"plain"}`)
	n.twin(`{"id":"far","model":"deep"}`)
	const csv = "time,level\n0,5\n100,6\n200,7\n"
	level := func(id string) float64 {
		return n.state("default/" + id).Properties["level"].GetValue().GetNumberValue()
	}
	for i, twins := range []string{"[flat, far]", "[far, flat]"} {
		id := fmt.Sprint("mixed", i)
		if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: id, Scenario: "twins: " + twins + "\nevery: 100s\nrepeat: false\nrecord: {csv: x}", Csv: csv,
			Speed: proto.Float64(0)}); err != nil {
			t.Fatal(err)
		}
		until(t, "it is over", func() bool { return n.simulation(id).State.Ended })
		if s := n.simulation(id).State; s.Stored != 6 || s.Refused != 0 || level("flat") != 7 || level("far") != 7 {
			t.Errorf("%s: %v; %v and %v", twins, s, level("flat"), level("far"))
		}
	}
	if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: "late", Scenario: "twins: [flat, late]\nevery: 100s\nrecord: {csv: x}", Csv: csv,
		Speed: proto.Float64(1000)}); err != nil {
		t.Fatal(err)
	}
	until(t, "one of them is not there", func() bool { return n.simulation("late").State.Refused > 0 })
	n.twin(`{"id":"late","model":"deep"}`)
	until(t, "it is told, too", func() bool { return level("late") >= 5 })
	if x := level("late"); x > 7 {
		t.Errorf("level %v", x)
	}
}

// Values of the past are history, and change nothing now.
func TestSimulationOfThePast(t *testing.T) {
	n := newNode(t)
	n.sensors("sim-1")
	csv := "time,level\n0,5\n100,6\n200,7\n"
	text := "twins: [sim-1]\nevery: 100s\nrepeat: false\nrecord: {csv: readings.csv}"
	if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: "past", Scenario: text, Csv: csv, Speed: proto.Float64(0),
		From: timestamppb.New(time.Now().Add(-48 * time.Hour))}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is over", func() bool { return n.simulation("past").State.Ended })
	if s := n.simulation("past").State; s.Stored != 3 || n.state("default/sim-1").Properties["level"] != nil {
		t.Errorf("%v; %v", s, n.state("default/sim-1").Properties)
	}
}

// What begins in the past and repeats ends where it comes to the present: there is no history of the future.
func TestSimulationOfThePastEndsNow(t *testing.T) {
	n := newNode(t)
	n.sensors("sim-1")
	if _, err := n.reg.CreateSimulation(ctx(t), &pb.Simulation{Id: "past", Scenario: "twins: [sim-1]\nevery: 1h\nlength: 5h\nvalues: {level: {keys: {0s: 1}}}",
		Speed: proto.Float64(0), From: timestamppb.New(time.Now().Add(-1000*time.Minute - 30*time.Hour))}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is over", func() bool { return n.simulation("past").State.Ended })
	if s := n.simulation("past").State; s.Stored != 47 || s.Refused != 0 {
		t.Errorf("it is at %v", s)
	}
}

func TestSimulationSaysWhatIsWrong(t *testing.T) {
	n := newNode(t)
	for want, m := range map[string]*pb.Simulation{
		"/simulation/scenario: /values: is missing":        {Scenario: "twins: [a]"},
		"/simulation/scenario: /project: hotel is another": {Scenario: "project: hotel\n" + climb},
		"/simulation/scenario: /count: there are 20001":    {Scenario: strings.Replace(climb, "20", "20001", 1)},
		"/simulation/scenario: /record: needs the":         {Scenario: "twins: [a]\nrecord: {csv: x}"},
		"/simulation/scenario: /record: is missing":        {Scenario: climb, Csv: "time,level\n0,1\n"},
		"/simulation/scenario: csv: line 2":                {Scenario: "twins: [a]\nrecord: {csv: x}", Csv: "time,level\nsoon,1\n"},
		"/simulation/model: there is no model default/no":  {Scenario: climb, Model: "no"},
		"/simulation/from":                                 {Scenario: climb, From: timestamppb.New(time.Now().Add(time.Hour))},
	} {
		m.Id = "x"
		if _, err := n.reg.CreateSimulation(ctx(t), m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
