package history

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/polluxhq/pollux/storage"
)

func TestRulesOfSeries(t *testing.T) {
	rules := SampleRules{List: []SampleRule{{MaxAge: 4 * time.Hour}, {Model: "Room", MaxAge: 3 * time.Hour, Step: time.Minute, StepMaxAge: 9 * time.Hour},
		{Property: "power", MaxAge: 2 * time.Hour, Step: time.Minute}, {Model: "Room", Property: "power", MaxAge: time.Hour}}}
	for _, c := range []struct {
		model, property string
		age, step       time.Duration
		ok              bool
	}{
		{"Hall", "heat", 4 * time.Hour, 0, true}, {"Room", "heat", 3 * time.Hour, time.Minute, true}, {"Hall", "power", 2 * time.Hour, time.Minute, true},
		{"Room", "power", time.Hour, 0, true}, {"Room", "heat/1m/max", 9 * time.Hour, 0, true}, {"Hall", "power/1m/count", 0, 0, false}, {"Room", "power/1m/sum", time.Hour, 0, true},
		{"Room", "power/1m", 3 * time.Hour, time.Minute, true},
	} {
		if age, step, ok := rules.ageOf(c.model, c.property); age != c.age || step != c.step || ok != c.ok {
			t.Errorf("%s of %s: %s %s %v, want %+v", c.property, c.model, age, step, ok, c)
		}
	}
	if _, _, ok := (SampleRules{List: []SampleRule{{Property: "power", MaxAge: time.Hour}}}).ageOf("Room", "heat"); ok {
		t.Error("a rule of another property counts")
	}
	// The label is the title of two models, and another one was that of a model which has got another.
	shared := SampleRules{List: []SampleRule{{Property: "power", MaxAge: time.Hour}, {Model: "p/a", Property: "power", MaxAge: 2 * time.Hour}, {Model: "p/a", Property: "heat", MaxAge: 2 * time.Hour},
		{Model: "p/b", MaxAge: 3 * time.Hour, Step: time.Minute}, {Model: "Hall", MaxAge: 4 * time.Hour}},
		ModelsOf: func(label string) []string {
			return map[string][]string{"Room": {"p/a", "p/b"}, "Meter": {"Meter"}, "Hall": {"Hall"}}[label]
		}}
	for series, want := range map[[2]string]time.Duration{{"Room", "power"}: 2 * time.Hour, {"Room", "heat"}: 3 * time.Hour, {"Meter", "power"}: time.Hour, {"Meter", "heat"}: 0,
		{"Hall", "heat"}: 4 * time.Hour, {"Former", "power"}: 2 * time.Hour, {"Former", "heat"}: 0} {
		if age, _, ok := shared.ageOf(series[0], series[1]); age != want || ok != (want > 0) {
			t.Errorf("%v, whose model is not known for sure: %s %v, want %s", series, age, ok, want)
		}
	}
	for d, want := range map[time.Duration]string{48 * time.Hour: "2d", 90 * time.Minute: "90m", 1500 * time.Millisecond: "1500ms", time.Second: "1s", 3 * time.Hour: "3h"} {
		if got := stepText(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
		if base, kind, ok := rolledProperty(rolledName("a/b", d, rolledMax)); base != "a/b" || kind != "max" || !ok {
			t.Errorf("%s: %s %s %v", d, base, kind, ok)
		}
	}
}

// day inserts eight hours of samples of several properties and twins, and gives the time of the first.
func day(t *testing.T, e *Embedded, project string) (start time.Time, each int) {
	t.Helper()
	start, each = dayOf(t, e, project)
	e.dirty.Store(true)
	return start, each
}

func dayOf(t *testing.T, e Sink, project string) (start time.Time, each int) {
	t.Helper()
	start = time.Now().Add(-8 * time.Hour).Truncate(time.Hour)
	each = int(7 * time.Hour / (20 * time.Second))
	for i, twin := range []string{"a", "b", "c.d"} {
		for _, model := range []string{"Room", ""} {
			for _, property := range []string{"heat", "power", "other"} {
				var samples []storage.Sample
				for k := range each {
					samples = append(samples, storage.Sample{Property: property, Time: start.Add(time.Duration(k) * 20 * time.Second).UnixMilli(), Value: float64((k*7+i)%50) / 4})
				}
				if model == "" && (property != "other" || i > 0) {
					continue // one twin changed its model
				}
				if err := e.Insert(t.Context(), 1, one(project, twin, model, samples...)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return start, each
}

// charts gives each aggregate of each twin, in steps of an hour.
func chartsOf(t *testing.T, e History, project, property string, start time.Time) map[string][]Series {
	t.Helper()
	out := map[string][]Series{}
	for _, a := range []string{"avg", "min", "max", "sum", "count", "first", "last", "delta", "rate", "dev", "p0", "p100"} {
		s, err := e.Series(t.Context(), SeriesQuery{Project: project, Property: property, Twins: []string{"a", "b", "c.d"}, End: start.Add(7 * time.Hour), Step: time.Hour, Steps: 7, Aggregate: a})
		if err != nil {
			t.Fatal(err)
		}
		out[a] = s
	}
	return out
}

func sameCharts(t *testing.T, what string, got, want map[string][]Series) {
	t.Helper()
	for a := range want {
		if !slices.EqualFunc(got[a], want[a], func(x, y Series) bool {
			return x.Twin == y.Twin && slices.EqualFunc(x.Values, y.Values, func(a, b float64) bool {
				return math.Abs(a-b) < 1e-6*max(1, math.Abs(b)) || math.IsNaN(a) && math.IsNaN(b)
			})
		}) {
			t.Errorf("%s: %s is\n%v, was\n%v", what, a, got[a], want[a])
		}
	}
}

func raws(t *testing.T, e History, project, twin, property string) int {
	t.Helper()
	return len(query(t, e, Query{Project: project, Twin: twin, Property: property, Start: time.Now().Add(-24 * time.Hour), End: time.Now(), Limit: MaxLimit}).Points)
}

// What is older than its rule goes, what is not stays, and charts of what was made into aggregates are what they were.
func TestCurate(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	e := openEmbedded(t, Options{Dir: dir})
	start, each := day(t, e, "house")
	day(t, e, "garden")
	time.Sleep(flushPause)
	heat, power, other := chartsOf(t, e, "house", "heat", start), chartsOf(t, e, "house", "power", start), chartsOf(t, e, "house", "other", start)
	rules := SampleRules{List: []SampleRule{{Property: "heat", MaxAge: 2 * time.Hour, Step: 5 * time.Minute}, {Property: "power", Model: "Room", MaxAge: 3 * time.Hour}}}
	now := start.Add(7 * time.Hour)
	went, stays := uint64(3*5*180), 2*180
	would, err := e.Expired(t.Context(), "house", rules, now)
	if err != nil || would.Series != 6 || would.Properties["heat"] != went+3 || would.Properties["power"] != 3*4*180 || would.Rolled+would.Kept != 0 {
		t.Errorf("it would do %+v: %v", would, err)
	}
	if n := raws(t, e, "house", "a", "heat"); n != each {
		t.Errorf("asking left %d samples of %d", n, each)
	}
	did, err := e.Curate(t.Context(), "house", rules, now, nil)
	if err != nil || did.Samples != would.Samples || did.Rolled != went+3 || did.Kept != uint64(3*(stays-1)+3*3*180) {
		t.Errorf("it did %+v, would %+v: %v", did, would, err)
	}
	if n := raws(t, e, "house", "b", "heat"); n != stays-1 {
		t.Errorf("%d samples are left, want %d", n, stays-1)
	}
	sameCharts(t, "heat", chartsOf(t, e, "house", "heat", start), heat)
	sameCharts(t, "other", chartsOf(t, e, "house", "other", start), other)
	after := chartsOf(t, e, "house", "power", start)
	for i, s := range after["count"] {
		if was := power["count"][i].Values; !math.IsNaN(s.Values[2]) || !slices.Equal(s.Values[4:], was[4:]) {
			t.Errorf("counts of power of %s are %v, were %v", s.Twin, s.Values, was)
		}
	}
	if n := raws(t, e, "garden", "b", "heat"); n != each {
		t.Errorf("another project has %d samples of %d", n, each)
	}
	// Twice is as once; what comes late joins the aggregates, and the newest samples go on in their series.
	if again, err := e.Curate(t.Context(), "house", rules, now.Add(time.Minute), nil); err != nil || again.Seen != 0 {
		t.Errorf("soon again: %+v %v", again, err)
	}
	late := storage.Sample{Property: "heat", Time: start.Add(90*time.Minute + time.Second).UnixMilli(), Value: 1000}
	fresh := storage.Sample{Property: "heat", Time: start.Add(7*time.Hour + time.Minute).UnixMilli(), Value: 7}
	insert(t, e, one("house", "b", "Room", late, fresh))
	for range 2 { // before and behind the next run
		charts := chartsOf(t, e, "house", "heat", start)
		if values := charts["max"][1].Values; values[1] != 1000 || values[2] == 1000 {
			t.Errorf("with a late sample: %v", values)
		}
		for _, a := range []string{"first", "last", "delta", "rate"} { // it is in the middle of its step
			if got, want := charts[a][1].Values, heat[a][1].Values; !slices.Equal(got[1:3], want[1:3]) {
				t.Errorf("%s with a late sample: %v, was %v", a, got, want)
			}
		}
		if _, err := e.Curate(t.Context(), "house", rules, now.Add(time.Hour), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := raws(t, e, "house", "b", "heat"); n != stays-180 {
		t.Errorf("%d samples are left, want %d", n, stays-180)
	}
	counts := chartsOf(t, e, "house", "heat", start)["count"][1].Values
	if want := heat["count"][1].Values; counts[1] != want[1]+1 || counts[3] != want[3] || counts[6] != want[6] {
		t.Errorf("counts are %v, were %v and one came late", counts, want)
	}
	// Aggregates go by an age of their own, and all of it survives a restart.
	rules.List[0].StepMaxAge = 6 * time.Hour
	if did, err := e.Curate(t.Context(), "house", rules, now.Add(2*time.Hour), nil); err != nil || did.Properties["heat/5m/count"] == 0 {
		t.Errorf("aggregates: %+v %v", did, err)
	}
	want := chartsOf(t, e, "house", "heat", start)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openEmbedded(t, Options{Dir: dir})
	sameCharts(t, "after a restart", chartsOf(t, e, "house", "heat", start), want)
	if c := want["count"][0].Values; !math.IsNaN(c[0]) || c[4] != 180 {
		t.Errorf("counts are %v", c)
	}
}

// A crash at any place of a rewriting is finished by the next start.
func TestCurateIsFinishedAfterACrash(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	k := kindOfSeries{"house", "Room", "heat"}
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprint("deleted ", deleted), func(t *testing.T) {
			dir := filepath.Join(dir, fmt.Sprint(deleted))
			e := openEmbedded(t, Options{Dir: dir})
			start, _ := day(t, e, "house")
			time.Sleep(flushPause)
			want := chartsOf(t, e, "house", "heat", start)
			cutoff := start.Add(4*time.Hour).UnixMilli() + 1
			w := rewriting{Project: "house", Model: "Room", Property: "heat", Twins: []string{"a", "c.d"}}
			if _, err := e.roll(t.Context(), &w, k, cutoff, 10*time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := e.writeRewriting(t.Context(), &w, k.match(w.Twins), cutoff); err != nil {
				t.Fatal(err)
			}
			if deleted {
				if err := deleteSeries(&w); err != nil {
					t.Fatal(err)
				}
				e.dirty.Store(true)
				if n := raws(t, e, "house", "a", "heat"); n != 0 {
					t.Fatalf("%d samples are left", n)
				}
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openEmbedded(t, Options{Dir: dir})
			sameCharts(t, "after the start", chartsOf(t, e, "house", "heat", start), want)
			if n := raws(t, e, "house", "a", "heat"); n != 3*180-1 {
				t.Errorf("%d samples are left, want %d", n, 3*180-1)
			}
			if n := raws(t, e, "house", "b", "heat"); n != 7*180 {
				t.Errorf("of one that was not chosen %d samples are left", n)
			}
			if _, err := os.Stat(filepath.Join(dir, rewriteFile)); !os.IsNotExist(err) {
				t.Errorf("the file is left: %v", err)
			}
			e.Close()
		})
	}
}

// What failed in the middle is done again before anything is inserted, which would go with the series otherwise.
func TestCurateIsFinishedBeforeAnythingIsInserted(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	e := openEmbedded(t, Options{Dir: dir})
	start, _ := day(t, e, "house")
	now := time.Now()
	time.Sleep(flushPause)
	had := raws(t, e, "house", "a", "heat")
	k := kindOfSeries{"house", "Room", "heat"}
	w := rewriting{Project: "house", Model: "Room", Property: "heat", Twins: []string{"a"}}
	if err := e.writeRewriting(t.Context(), &w, k.match(w.Twins), start.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, rewriteFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)-9], 0o600); err != nil { // the disk gives less than it was given
		t.Fatal(err)
	}
	e.unfinished = true
	late := []storage.TwinSamples{{Project: "house", Twin: "a", Model: "Room", Samples: []storage.Sample{{Property: "heat", Time: now.UnixMilli() - 7000, Value: 21}}}}
	for range 2 {
		if err := e.Insert(t.Context(), 1, late); err == nil {
			t.Fatal("it was inserted among series that are half written")
		}
	}
	rules := SampleRules{List: []SampleRule{{MaxAge: time.Hour}}}
	if _, err := e.Curate(t.Context(), "house", rules, now, nil); err == nil {
		t.Error("the next group took the file's place")
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Insert(t.Context(), 1, late); err != nil {
		t.Fatal(err)
	}
	time.Sleep(flushPause)
	if n := raws(t, e, "house", "a", "heat"); n != had+1 {
		t.Errorf("%v samples, want %v", n, had+1)
	}
}

// What is asked while series are written anew counts them.
func TestExpiredWhileSeriesAreWrittenAnew(t *testing.T) {
	takeTurn(t)
	e := openEmbedded(t, Options{})
	_, each := day(t, e, "house")
	time.Sleep(flushPause)
	had := raws(t, e, "house", "b", "heat")
	w := rewriting{Project: "house", Model: "Room", Property: "heat", Twins: []string{"a", "b", "c.d"}}
	k := kindOfSeries{w.Project, w.Model, w.Property}
	e.moving.Lock()
	if err := errors.Join(e.writeRewriting(t.Context(), &w, k.match(w.Twins), 0), deleteSeries(&w)); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		c   Curation
		err error
	}
	asked := make(chan answer, 1)
	go func() {
		c, err := e.Expired(t.Context(), "house", SampleRules{List: []SampleRule{{Property: "heat", MaxAge: time.Hour}}}, time.Now().Add(24*time.Hour))
		asked <- answer{c, err}
	}()
	var got answer
	select {
	case got = <-asked:
		t.Errorf("in the midst of it: %+v", got)
	case <-time.After(time.Second):
		e.mu.Lock()
		_, err := e.finishRewriting()
		e.mu.Unlock()
		e.moving.Unlock()
		if got = <-asked; err != nil || got.err != nil || got.c.Samples != uint64(3*each) || had != each {
			t.Errorf("behind it: %+v, want %d samples: %v", got, 3*each, err)
		}
	}
}
