package actors_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// detector creates a detector.
func (n *node) detector(text string) *pb.Detector {
	n.t.Helper()
	m := &pb.Detector{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		n.t.Fatal(err)
	}
	m, err := n.reg.CreateDetector(ctx(n.t), m)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// sensors makes a model of a property t, and twins of it.
func sensors(n *node, ids ...string) {
	n.model("sensor", thing("Sensor", `"t":{"type":"number","readOnly":true}`))
	for _, id := range ids {
		n.applied(fmt.Sprintf(`{"twin":{"id":%q,"model":"sensor"}}`, id))
	}
}

// readings has a twin take n readings around 20, a minute apart, the last of them at the time to.
func (n *node) readings(id string, many int, to time.Time) {
	n.t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(many)))
	for i := range many {
		at := to.Add(-time.Duration(many-1-i) * time.Minute)
		n.absorb(id, fmt.Sprintf(`{"t":%.3f}`, 20+0.1*r.NormFloat64()), at.UnixMilli())
	}
}

// judged waits for how a detector does on a twin.
func (n *node) judged(id, detector, what string, ok func(*pb.DetectorState) bool) *pb.DetectorState {
	n.t.Helper()
	var s *pb.DetectorState
	until(n.t, id+": "+what, func() bool {
		st, err := n.client.State(ctx(n.t), id, false)
		if err != nil {
			return false
		}
		s = st.Detectors["default/"+detector]
		return ok(s)
	})
	return s
}

func TestDetectorJudges(t *testing.T) {
	n := newNode(t)
	sensors(n, "a", "b")
	n.detector(`{"id":"spikes","property":"t","kind":"DETECTOR_KIND_EWMA","of":{"twins":["a"]}}`)
	n.detector(`{"id":"hourly","property":"t","kind":"DETECTOR_KIND_STATISTICS","output":"t1h"}`)
	now := time.Now()
	n.readings("a", 60, now.Add(-time.Hour))
	n.readings("b", 60, now.Add(-time.Hour))
	n.derives("a", "t_ewma_anomaly", "false good")
	a := n.state("a")
	if s := a.Detectors["default/spikes"]; !s.Ready || s.Readings != 60 || s.Output != "t_ewma" || s.Score >= 6 || s.Expected < 19.5 || s.Expected > 20.5 || s.Bytes == 0 {
		t.Errorf("%v", s)
	}
	for _, name := range []string{"t_ewma_score", "t_ewma_expected", "t1h_mean", "t1h_sd", "t1h_min", "t1h_max", "t1h_rate"} {
		if p := a.Properties[name]; p == nil || !p.Time.AsTime().Equal(a.Properties["t"].Time.AsTime()) {
			t.Errorf("%s is %v, t %v", name, p, a.Properties["t"])
		}
	}
	if b := n.state("b"); b.Properties["t_ewma_score"] != nil || b.Properties["t1h_mean"] == nil || len(b.Detectors) != 1 {
		t.Errorf("the detector is not for b: %v", b)
	}
	n.absorb("a", `{"t":25}`, now.Add(-59*time.Minute).UnixMilli())
	n.derives("a", "t_ewma_anomaly", "true good")
	n.absorb("a", `{"t":20}`, now.Add(-58*time.Minute).UnixMilli())
	n.derives("a", "t_ewma_anomaly", "false good")

	// With another threshold it goes on with what it has learned; with another memory it begins anew.
	m, err := n.reg.Detector("spikes")
	if err != nil {
		t.Fatal(err)
	}
	m.Threshold = 0.0001
	if m, err = n.reg.UpdateDetector(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	n.absorb("a", `{"t":20.3}`, now.Add(-57*time.Minute).UnixMilli())
	n.derives("a", "t_ewma_anomaly", "true good")
	n.judged("a", "spikes", "it has 63 readings", func(s *pb.DetectorState) bool { return s.GetReadings() == 63 })
	m.Readings = 20
	if m, err = n.reg.UpdateDetector(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	n.absorb("a", `{"t":20.1}`, now.Add(-56*time.Minute).UnixMilli())
	n.judged("a", "spikes", "it begins anew", func(s *pb.DetectorState) bool { return s.GetReadings() == 1 && !s.Ready })

	// Paused, it says nothing; deleted, nothing is left but its last words.
	m.Paused = true
	if _, err = n.reg.UpdateDetector(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	until(t, "what it said is stale", func() bool {
		return n.state("a").Properties["t_ewma_score"].Quality == pb.Quality_QUALITY_STALE
	})
	if err := n.reg.DeleteDetector(ctx(t), "spikes"); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteDetector(ctx(t), "hourly"); err != nil {
		t.Fatal(err)
	}
	n.untrained("no detector is left")
	n.derives("b", "t1h_mean", n.valueOf("b", "t1h_mean")+" stale")
	if s := n.state("a"); len(s.Detectors) != 0 {
		t.Errorf("%v", s.Detectors)
	}
}

// untrained waits until no training is kept.
func (n *node) untrained(why string) {
	n.t.Helper()
	until(n.t, "training is gone: "+why, func() bool {
		c, err := n.store.Count("training", "")
		return err == nil && c == 0
	})
}

// What was learned is what was committed: after a crash the twin goes on with the readings that it has, and not from the beginning.
func TestTrainingSurvivesACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	t.Parallel()
	n := open(t, fs, 1)
	sensors(n, "a", "gone")
	n.detector(`{"id":"spikes","property":"t","kind":"DETECTOR_KIND_EWMA"}`)
	n.detector(`{"id":"hourly","property":"t","kind":"DETECTOR_KIND_STATISTICS"}`)
	now := time.Now()
	n.readings("a", 200, now.Add(-time.Hour))
	n.readings("gone", 10, now.Add(-time.Hour))
	// A desired value is committed before it is acknowledged, and all that the twin knows with it.
	if _, err := n.client.SetDesired(ctx(t), &pb.SetDesiredRequest{Id: "a", Property: "t", Value: value(t, "20")}, "me"); err == nil {
		t.Fatal("t can be set")
	}
	until(t, "200 readings are committed", func() bool {
		for rec, err := range n.store.Scan("training", "default/a\x00spikes", "") {
			_, learned, _ := strings.Cut(string(rec.Value), "\x00")
			return err == nil && len(learned) > 11 && learned[10] == 0x90 && learned[11] == 0x03 // 200, as a varint
		}
		return false
	})
	before := n.state("a")
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, left, 2)
	after := n.judged("a", "spikes", "it has its readings", func(s *pb.DetectorState) bool { return s.GetReadings() >= 200 })
	if was := before.Detectors["default/spikes"]; after.Readings != 200 || after.Expected != was.Expected || !after.Ready {
		t.Errorf("after the crash %v, before it %v", after, was)
	}
	mean := n.valueOf("a", "t_statistics_mean")
	n.absorb("a", `{"t":20.02}`, now.Add(-59*time.Minute).UnixMilli())
	s := n.judged("a", "hourly", "201 readings", func(s *pb.DetectorState) bool { return s.GetReadings() == 201 })
	if s.Error != "" || n.valueOf("a", "t_statistics_mean") == mean {
		t.Errorf("%v, mean %s as before", s, mean)
	}
	// A twin that is deleted leaves no training.
	for _, id := range []string{"a", "gone"} {
		if err := n.reg.DeleteTwin(ctx(t), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	n.untrained("the twins are deleted")
}

// A twin that moves takes along what it has learned, to the last reading.
func TestTrainingMoves(t *testing.T) {
	a, b := pairLeased(t, 0)
	var ids []string
	for i := range 8 {
		ids = append(ids, fmt.Sprintf("s%d", i))
	}
	sensors(a, ids...)
	a.detector(`{"id":"level","property":"t","kind":"DETECTOR_KIND_SHIFT"}`)
	until(t, "b has all", func() bool {
		_, err := b.reg.Detector("level")
		_, gone := b.reg.GetTwin(ids[7])
		return err == nil && gone == nil
	})
	now := time.Now()
	take := func(id string, i int) {
		owner := map[string]*node{"n1": a, "n2": b}[a.owner("default/"+id)]
		until(t, id+" takes a reading", func() bool {
			return owner.engine.Absorb(id, fmt.Sprintf(`{"t":%d}`, 20+i%3), now.Add(time.Duration(i-300)*time.Minute).UnixMilli(), false).Err == nil
		})
	}
	for _, id := range ids {
		for i := range 120 {
			take(id, i)
		}
	}
	a.drain("n2")
	until(t, "all are on a", func() bool {
		for _, id := range ids {
			if a.owner("default/"+id) != "n1" {
				return false
			}
		}
		return true
	})
	for _, id := range ids {
		take(id, 120)
		s := a.judged(id, "level", "it has all readings", func(s *pb.DetectorState) bool { return s.GetReadings() >= 121 })
		if s.Readings != 121 || !s.Ready {
			t.Errorf("%s: %v", id, s)
		}
	}
}

// Silence is judged although nothing happens, also of a twin that is not in memory; and the time in which no node was there is not
// all held against the device.
func TestMissingIsFound(t *testing.T) {
	c := &handClock{}
	c.at, _ = time.Parse(time.RFC3339, "2026-03-01T12:00:00Z")
	n := newNode(t, func(o *actors.Options) { o.Clock, o.IdleTimeout = c, 5*time.Minute })
	sensors(n, "a", "quiet")
	n.detector(`{"id":"silent","property":"t","kind":"DETECTOR_KIND_MISSING","window":"3600s"}`)
	n.absorb("a", `{"t":20}`, 0)
	n.judged("a", "silent", "it waits", func(s *pb.DetectorState) bool {
		return s.GetDue().AsTime().Equal(c.Now().Add(time.Hour))
	})
	// The time goes on while something is awaited, for what is done at one time may have to wait for a later one.
	tick := func(at string) func() {
		c.to(t, at, n)
		moved := 0
		return func() {
			if moved++; moved < 20*60 {
				c.to(t, c.Now().Add(time.Second).Format(time.RFC3339Nano), n)
			}
			n.engine.Tick()
		}
	}
	a := cluster.Target{Kind: "twin", ID: "default/a"}
	more := tick("2026-03-01T12:30:00Z")
	until(t, "a is not in memory", func() bool { more(); return !n.engine.Active(a) })
	more = tick("2026-03-01T13:02:00Z")
	until(t, "a is woken", func() bool { more(); return n.engine.Active(a) })
	n.judged("a", "silent", "its life began by now", func(s *pb.DetectorState) bool {
		return s.GetDue() != nil && !s.Due.AsTime().After(c.Now().Add(time.Minute))
	})
	more = tick("2026-03-01T13:30:00Z") // the life that began then has listened for long enough
	var p *pb.Property
	until(t, "a is missing", func() bool {
		more()
		p = n.state("a").Properties["t_missing_anomaly"]
		return p != nil && p.Value.GetBoolValue()
	})
	if n.state("quiet").Properties["t_missing_anomaly"] != nil {
		t.Error("what never was is missing")
	}
	n.absorb("a", `{"t":20}`, 0)
	n.derives("a", "t_missing_anomaly", "false good")
}

// Silence of a twin that a detector is not for any more is no anomaly, and what it judged is stale; one that comes to it is judged though it says nothing.
func TestMissingFollowsTheZone(t *testing.T) {
	n, c := clocked(t, "2026-03-01T12:00:00Z")
	for _, line := range []string{`{"zone":{"id":"cold"}}`, `{"zone":{"id":"far"}}`, `{"zone":{"id":"store","parent":"cold"}}`} {
		n.applied(line)
	}
	sensors(n)
	n.applied(`{"twin":{"id":"a","model":"sensor","zone":"store"}}`, `{"twin":{"id":"b","model":"sensor","zone":"store"}}`)
	n.detector(`{"id":"silent","property":"t","kind":"DETECTOR_KIND_MISSING","window":"60s","of":{"zone":"cold"}}`)
	for _, id := range []string{"a", "b"} {
		n.absorb(id, `{"t":20}`, 0)
		n.judged(id, "silent", "it waits", func(s *pb.DetectorState) bool { return s.GetDue() != nil })
	}
	n.applied(`{"twin":{"id":"a","model":"sensor","zone":"far"}}`)
	n.applied(`{"zone":{"id":"store","parent":"far"}}`)
	until(t, "the zone has moved", func() bool { z, err := n.reg.GetZone("store"); return err == nil && z.Parent == "default/far" })
	c.to(t, "2026-03-01T12:05:00Z", n)
	for _, id := range []string{"a", "b"} {
		until(t, id+" is nobody's", func() bool { n.engine.Tick(); return n.state(id).Detectors["default/silent"] == nil })
		if p := n.state(id).Properties["t_missing_anomaly"]; p != nil && p.Value.GetBoolValue() {
			t.Errorf("%s is missing: %v", id, p)
		}
	}
	until(t, "nothing is left of what was learned", func() bool {
		c.to(t, c.Now().Add(time.Second).Format(time.RFC3339Nano), n)
		left, err := n.store.Count("training", "")
		return err == nil && left == 0
	})
}

// Who moves out of a detector's zone or system, or with it, is let go of, also where he is not in memory: what was said of him is no longer so.
func TestDetectorLetsGoOfWhoMovesAway(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.IdleTimeout = 50 * time.Millisecond })
	for _, line := range []string{`{"zone":{"id":"cold"}}`, `{"zone":{"id":"far"}}`, `{"zone":{"id":"store","parent":"cold"}}`} {
		n.applied(line)
	}
	sensors(n)
	n.applied(`{"twin":{"id":"a","model":"sensor","zone":"cold"}}`, `{"twin":{"id":"b","model":"sensor","zone":"store"}}`, `{"twin":{"id":"c","model":"sensor"}}`)
	n.system("all", "Part_1=c")
	n.detector(`{"id":"spikes","property":"t","output":"z","kind":"DETECTOR_KIND_EWMA","of":{"zone":"cold"}}`)
	n.detector(`{"id":"peaks","property":"t","output":"s","kind":"DETECTOR_KIND_EWMA","of":{"system":"all"}}`)
	for id, output := range map[string]string{"a": "z", "b": "z", "c": "s"} {
		n.readings(id, 60, time.Now())
		n.derives(id, output+"_anomaly", "false good")
		until(t, id+" is not in memory", func() bool { return !n.engine.Active(cluster.Target{Kind: "twin", ID: "default/" + id}) })
		switch id {
		case "a":
			n.applied(`{"twin":{"id":"a","model":"sensor","zone":"far"}}`)
		case "b":
			n.applied(`{"zone":{"id":"store","parent":"far"}}`)
		case "c":
			n.system("all")
		}
		n.untrained(id + " has moved")
		n.derives(id, output+"_anomaly", "false stale")
	}
}

// A detector that is to judge another property begins anew: what it has learned was of the one before.
func TestDetectorOfAnotherProperty(t *testing.T) {
	n := newNode(t)
	n.model("sensor", thing("Sensor", `"t":{"type":"number","readOnly":true},"p":{"type":"number","readOnly":true}`))
	n.applied(`{"twin":{"id":"a","model":"sensor"}}`)
	m := n.detector(`{"id":"spikes","property":"t","output":"odd","kind":"DETECTOR_KIND_EWMA"}`)
	n.readings("a", 60, time.Now())
	n.derives("a", "odd_anomaly", "false good")
	m.Property = "p"
	if _, err := n.reg.UpdateDetector(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	n.absorb("a", `{"p":1013}`, 0)
	s := n.judged("a", "spikes", "it judges", func(s *pb.DetectorState) bool { return s.GetReadings() > 0 })
	if s.Ready || s.Readings != 1 {
		t.Errorf("%v", s)
	}
	n.derives("a", "odd_anomaly", "false stale")
}

// A detector that may not write what it would leaves alone whoever does.
func TestDetectorThatObjectsSpoilsNothing(t *testing.T) {
	n := newNode(t)
	n.model("sensor", thing("Sensor", `"t":{"type":"number","readOnly":true},"own_score":{"type":"number","readOnly":true}`))
	n.applied(`{"twin":{"id":"a","model":"sensor"}}`)
	n.detector(`{"id":"first","property":"t","output":"odd","kind":"DETECTOR_KIND_EWMA"}`)
	n.readings("a", 60, time.Now())
	n.absorb("a", `{"own_score":1}`, 0)
	n.derives("a", "odd_anomaly", "false good")
	n.detector(`{"id":"second","property":"t","output":"odd","kind":"DETECTOR_KIND_EWMA"}`)
	n.detector(`{"id":"third","property":"t","output":"own","kind":"DETECTOR_KIND_EWMA"}`)
	for _, id := range []string{"second", "third"} {
		n.judged("a", id, "it objects", func(s *pb.DetectorState) bool { return s.GetError() != "" })
	}
	for _, name := range []string{"odd_anomaly", "own_score"} {
		if p := n.state("a").Properties[name]; p.Quality != pb.Quality_QUALITY_GOOD {
			t.Errorf("%s is %v", name, p)
		}
	}
}

func TestDetectorsRefused(t *testing.T) {
	n := newNode(t)
	sensors(n, "a")
	for text, want := range map[string]string{
		`{"id":"x","kind":"DETECTOR_KIND_EWMA"}`:                                       "/detector/property",
		`{"id":"x","property":"t"}`:                                                    "/detector/kind",
		`{"id":"x","property":"t","kind":"DETECTOR_KIND_EWMA","window":"3600s"}`:       "/detector/window",
		`{"id":"x","property":"t","kind":"DETECTOR_KIND_SEASONAL","time_zone":"Mars"}`: "/detector/time_zone",
		`{"id":"x","property":"t","kind":"DETECTOR_KIND_EWMA","of":{"zone":"p2/z"}}`:   "/detector/of/zone",
		`{"id":"x","property":"t_score","kind":"DETECTOR_KIND_EWMA","output":"t"}`:     "/detector/output",
	} {
		m := &pb.Detector{}
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		_, err := n.reg.CreateDetector(ctx(t), m)
		var bad *actors.InvalidError
		if !errors.As(err, &bad) || bad.Path != want {
			t.Errorf("%s: %v, want one at %s", text, err, want)
		}
	}
	m := n.detector(`{"id":"x","property":"t","kind":"DETECTOR_KIND_EWMA"}`)
	if _, err := n.reg.CreateDetector(ctx(t), m); !errors.Is(err, actors.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	// Two that write the same, and one that would write over the device's own: the first judges, the others say why they do not.
	n.detector(`{"id":"y","property":"t","kind":"DETECTOR_KIND_EWMA","readings":50}`)
	n.detector(`{"id":"z","property":"t","kind":"DETECTOR_KIND_STUCK","output":"own"}`)
	n.model("odd", thing("Odd", `"t":{"type":"number"},"own_score":{"type":"number"}`))
	n.applied(`{"twin":{"id":"o","model":"odd"}}`)
	n.absorb("o", `{"t":1}`, 0)
	d := n.state("o").Detectors
	if d["default/x"].Error != "" || d["default/x"].Readings != 1 || !strings.Contains(d["default/y"].Error, "detector default/x writes t_ewma_") ||
		!strings.Contains(d["default/z"].Error, "own_score of its own") {
		t.Errorf("%v", d)
	}
}
