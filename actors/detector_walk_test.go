package actors_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/analytics"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestDetectorWalk: readings come while detectors are edited, paused, deleted and made again, twins move and are made anew, and the node dies. What each
// detector says of each twin is what one says that was given all that was acknowledged, and nothing twice.
func TestDetectorWalk(t *testing.T) {
	harness.Seeds(t, 2, func(t *testing.T, seed uint64) {
		t.Parallel()
		w := &detectorWalk{t: t, fs: vfs.NewCrashableMem(), rnd: rand.New(rand.NewPCG(seed, 3)), at: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
			zones: map[string]string{}, detectors: map[string]*pb.Detector{}, series: map[[2]string]*analytics.Series{}}
		w.run()
	})
}

type detectorWalk struct {
	t     *testing.T
	fs    *vfs.MemFS
	n     *node
	lives uint64
	rnd   *rand.Rand
	at    time.Time
	zones map[string]string // of the twins that are there
	// detectors are those that there are, series what those have learned that judge, by twin and detector.
	detectors map[string]*pb.Detector
	series    map[[2]string]*analytics.Series
	log       []string
}

var walkDetectors = map[string]*pb.Detector{
	"ewma":   {Kind: pb.DetectorKind_DETECTOR_KIND_EWMA, Readings: 6},
	"stats":  {Kind: pb.DetectorKind_DETECTOR_KIND_STATISTICS, Window: durationpb.New(time.Hour)},
	"season": {Kind: pb.DetectorKind_DETECTOR_KIND_SEASONAL},
	"shift":  {Kind: pb.DetectorKind_DETECTOR_KIND_SHIFT, Readings: 8},
	"stuck":  {Kind: pb.DetectorKind_DETECTOR_KIND_STUCK, Window: durationpb.New(5 * time.Minute)},
}

func (w *detectorWalk) open() {
	w.lives++
	w.n = open(w.t, w.fs, w.lives)
}

func (w *detectorWalk) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *detectorWalk) run() {
	defer func() {
		if w.t.Failed() {
			w.t.Log(strings.Join(w.log, "\n"))
		}
	}()
	w.open()
	w.n.model("sensor", thing("Sensor", `"t":{"type":"number"},"p":{"type":"number"}`))
	for _, z := range []string{"in", "out"} {
		w.n.applied(fmt.Sprintf(`{"zone":{"id":%q}}`, z))
	}
	for range 150 {
		w.step()
	}
	w.check()
}

// judges says whether a detector judges a twin.
func (w *detectorWalk) judges(d *pb.Detector, twin string) bool {
	return d != nil && !d.Paused && w.zones[twin] != "" && (d.Of.GetZone() == "" || w.zones[twin] == "in")
}

// settings of a detector, as the oracle has them.
func (w *detectorWalk) settings(d *pb.Detector) analytics.Settings {
	s, err := analytics.Settings{Kind: analytics.Kind(d.Kind), Threshold: d.Threshold, Window: d.Window.AsDuration(), Readings: int(d.Readings)}.Complete()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// forget has the oracle forget what nobody keeps, and waits until nobody does.
func (w *detectorWalk) forget() {
	for key := range w.series {
		d := w.detectors[key[1]]
		if d == nil || w.zones[key[0]] == "" || d.Of.GetZone() != "" && w.zones[key[0]] != "in" {
			delete(w.series, key)
			until(w.t, fmt.Sprintf("%v is forgotten", key), func() bool {
				left, err := w.n.store.Count("training", "default/"+key[0]+"\x00"+key[1])
				return err == nil && left == 0
			})
		}
	}
}

func (w *detectorWalk) step() {
	r := w.rnd
	twin := pick(r, []string{"a", "b"})
	name := pick(r, []string{"ewma", "stats", "season", "shift", "stuck"})
	d := w.detectors[name]
	switch n := r.IntN(100); {
	case n < 60:
		if w.zones[twin] != "" {
			w.read(twin)
		}
	case n < 68:
		zone := pick(r, []string{"in", "out"})
		w.n.applied(fmt.Sprintf(`{"twin":{"id":%q,"model":"sensor","zone":%q}}`, twin, zone))
		w.zones[twin] = zone
		w.note("%s is in %s", twin, zone)
		w.forget()
	case n < 71:
		if w.zones[twin] != "" {
			if err := w.n.reg.DeleteTwin(ctx(w.t), twin, 0); err != nil {
				w.t.Fatal(err)
			}
			w.zones[twin] = ""
			w.note("%s is deleted", twin)
			w.forget()
		}
	case n < 78 && d == nil:
		m := &pb.Detector{Id: name, Property: pick(r, []string{"t", "p"}), Kind: walkDetectors[name].Kind, Window: walkDetectors[name].Window, Readings: walkDetectors[name].Readings, Output: name}
		if r.IntN(2) == 0 {
			m.Of = &pb.Selection{Zone: "in"}
		}
		m, err := w.n.reg.CreateDetector(ctx(w.t), m)
		if err != nil {
			w.t.Fatal(err)
		}
		w.detectors[name] = m
		w.note("made %v", m)
	case n < 78:
		if err := w.n.reg.DeleteDetector(ctx(w.t), name); err != nil {
			w.t.Fatal(err)
		}
		delete(w.detectors, name)
		w.note("deleted %s", name)
		w.forget()
	case n < 88 && d != nil:
		w.edit(name, d)
	case n < 92:
		left := w.fs.CrashClone(vfs.CrashCloneCfg{})
		w.n.close()
		w.fs = left
		w.open()
		w.note("crash")
	case n < 94:
		w.n.close()
		w.open()
		w.note("restart")
	default:
		w.check()
	}
}

// edit changes something of a detector.
func (w *detectorWalk) edit(name string, d *pb.Detector) {
	anew := false
	switch n := w.rnd.IntN(4); {
	case n == 0 && name != "stats":
		d.Threshold = float64(1 + w.rnd.IntN(5))
	case n == 1 && d.Readings > 0:
		d.Readings += 2
		anew = true
	case n == 2:
		d.Property = map[string]string{"t": "p", "p": "t"}[d.Property]
		anew = true
	default:
		d.Paused = !d.Paused
	}
	m, err := w.n.reg.UpdateDetector(ctx(w.t), d)
	if err != nil {
		w.t.Fatal(err)
	}
	w.detectors[name] = m
	w.note("edited %v", m)
	for twin, zone := range w.zones {
		if zone != "" {
			w.n.state(twin) // it looks, lest the next edit takes this one back
		}
	}
	for key, s := range w.series {
		if key[1] != name {
			continue
		}
		if anew {
			delete(w.series, key)
			continue
		}
		again, err := analytics.Restore(w.settings(m), s.Append(nil), s.AppendLong(nil))
		if err != nil {
			w.t.Fatal(err)
		}
		w.series[key] = again
	}
}

// read has a twin take a reading.
func (w *detectorWalk) read(twin string) {
	w.at = w.at.Add(time.Duration(1+w.rnd.IntN(90)) * time.Minute / 3)
	doc := map[string]float64{}
	for _, p := range []string{"t", "p"} {
		if w.rnd.IntN(3) > 0 {
			doc[p] = float64(w.rnd.IntN(4))
		}
	}
	text, _ := json.Marshal(doc)
	if len(doc) == 0 {
		return
	}
	w.note("%s at %s: %s", twin, w.at.Format(time.RFC3339), text)
	w.n.absorb(twin, string(text), w.at.UnixMilli())
	for name, d := range w.detectors {
		x, some := doc[d.Property]
		if !some || !w.judges(d, twin) {
			continue
		}
		key := [2]string{twin, name}
		if w.series[key] == nil {
			w.series[key] = analytics.New(w.settings(d))
		}
		w.series[key].Observe(w.at.UnixMilli(), x)
	}
}

// check compares what detectors say with what the oracle does.
func (w *detectorWalk) check() {
	for twin, zone := range w.zones {
		if zone == "" {
			continue
		}
		st := w.n.state(twin)
		for name, d := range w.detectors {
			got, want := st.Detectors["default/"+name], w.series[[2]string{twin, name}]
			if !w.judges(d, twin) {
				if got != nil && got.Readings > 0 {
					w.t.Errorf("%s is not for %s: %v", name, twin, got)
				}
				continue
			}
			if want == nil {
				want = analytics.New(w.settings(d))
			}
			v := want.Last()
			if got == nil || got.Error != "" || got.Readings != want.Seen() || got.Ready != v.Ready || got.Anomaly != v.Anomaly || got.Score != v.Number(analytics.OutputScore) || got.Expected != v.Number(analytics.OutputExpected) {
				w.t.Errorf("%s of %s: %v, want %d %v", name, twin, got, want.Seen(), v)
			}
			if p := st.Properties[name+"_score"]; v.Ready && name != "stats" && p != nil && (p.Quality == pb.Quality_QUALITY_GOOD && p.Value.GetNumberValue() != v.Number(analytics.OutputScore)) {
				w.t.Errorf("%s of %s says %v, want %v", name, twin, p, v)
			}
		}
	}
	w.note("checked")
}
