package history

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// pastSeries names a series of history, and past has the values of each by their times.
type pastSeries struct{ project, twin, model, property string }

type past map[pastSeries]map[int64]float64

// add puts samples into the model.
func (p past) add(s pastSeries, at int64, v float64) {
	if p[s] == nil {
		p[s] = map[int64]float64{}
	}
	p[s][at] = v
}

// ruleOf is the closest rule of a series, or nil, and kind what aggregate its property is.
func ruleOf(rules []SampleRule, s pastSeries) (rule *SampleRule, kind string) {
	property := s.property
	if parts := strings.Split(property, "/"); len(parts) > 2 && slices.Contains(rolledNames[:], parts[len(parts)-1]) {
		property, kind = strings.Join(parts[:len(parts)-2], "/"), parts[len(parts)-1]
	}
	for _, want := range [][2]string{{s.model, property}, {"", property}, {s.model, ""}, {"", ""}} {
		for i := range rules {
			if rules[i].Model == want[0] && rules[i].Property == want[1] {
				return &rules[i], kind
			}
		}
	}
	return nil, kind
}

// curate says what rules let go of a project, by property, and leaves the rest and the aggregates.
func (p past) curate(project string, rules []SampleRule, now time.Time) map[string]uint64 {
	went := map[string]uint64{}
	for s, samples := range maps.Clone(p) {
		rule, kind := ruleOf(rules, s)
		if s.project != project || rule == nil {
			continue
		}
		age, step := rule.MaxAge, rule.Step.Milliseconds()
		if kind != "" && step > 0 {
			if age, step = rule.StepMaxAge, 0; age == 0 {
				continue
			}
		}
		last := now.Add(-age).UnixMilli() // that goes
		if step == 0 {
			last--
		} else {
			last -= last % step
		}
		steps := map[int64][]int64{} // the times by the end of their step
		for _, at := range slices.Sorted(maps.Keys(samples)) {
			if at <= last {
				went[s.property]++
				if kind == "" && step > 0 {
					end := (at + step - 1) / step * step
					steps[end] = append(steps[end], at)
				}
			}
		}
		for _, times := range steps {
			var values []float64
			for _, at := range times {
				values = append(values, samples[at])
			}
			for _, name := range rolledNames {
				at := times[len(times)-1]
				if name == "first" {
					at = times[0]
				}
				rolled := s
				rolled.property += "/" + stepText(time.Duration(step)*time.Millisecond) + "/" + name
				p.add(rolled, at, truth(values, name))
			}
		}
		maps.DeleteFunc(samples, func(at int64, _ float64) bool { return at <= last })
	}
	return went
}

// differs says where history is not as the model.
func (p past) differs(t *testing.T, e *Embedded) string {
	t.Helper()
	got := past{}
	projects := map[string]bool{}
	for s := range p {
		projects[s.project] = true
	}
	for project := range projects {
		err := e.Walk(t.Context(), WalkQuery{Project: project, Start: time.Now().Add(-90 * 24 * time.Hour), End: time.Now().Add(time.Hour)}, func(x storage.TwinSamples) error {
			for _, v := range x.Samples {
				got.add(pastSeries{x.Project, x.Twin, x.Model, v.Property}, v.Time, v.Value)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for s, samples := range got {
		for at, v := range samples {
			if want, ok := p[s][at]; !ok || math.Abs(v-want) > 1e-9*max(1, math.Abs(want)) {
				return fmt.Sprintf("%q has %v at %d, want %v (%v)", s, v, at, want, ok)
			}
		}
	}
	for s, samples := range p {
		if len(got[s]) != len(samples) {
			return fmt.Sprintf("%q has %d samples, want %d", s, len(got[s]), len(samples))
		}
	}
	return ""
}

// TestCurateAgainstAModel: random rules, over random samples of projects, models and properties with names of all kinds, let go what was said
// before, which is what a plain model of the rules says, and nothing else; what they leave is right, sample by sample.
func TestCurateAgainstAModel(t *testing.T) {
	takeTurn(t)
	dir := t.TempDir()
	e := openEmbedded(t, Options{Dir: dir})
	models := []string{"", "Room", "room", "R (1|2)", `R"o\o.m`}
	properties := []string{"heat", "heating", "he.t", `h"e|a\t`, "heat/5m", "heat/5m/most"}
	projects := []string{"house", "housing", "garden"}
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 1))
		pick := func(of []string) string { return of[r.IntN(len(of))] }
		for i := range projects {
			projects[i] += "x" // each seed has its own
		}
		now, p := time.Now().Add(-10*24*time.Hour).Truncate(time.Minute), past{}
		fill := func(n int) {
			var batch []storage.TwinSamples
			for range n {
				s := pastSeries{pick(projects), pick([]string{"a", "a.b", "a-b", "b"}), pick(models), pick(properties)}
				x := one(s.project, s.twin, s.model)[0]
				for range 1 + r.IntN(80) {
					at, v := now.UnixMilli()-r.Int64N(20*24*3600_000), float64(r.IntN(4000))/4-500
					if p[s][at] != 0 {
						continue
					}
					p.add(s, at, v)
					x.Samples = append(x.Samples, storage.Sample{Property: s.property, Time: at, Value: v})
				}
				batch = append(batch, x)
			}
			if err := e.Insert(t.Context(), 1, batch); err != nil {
				t.Fatal(err)
			}
			e.flushed = time.Time{}
			e.dirty.Store(true)
		}
		fill(25)
		for round := range 2 {
			var rules []SampleRule
			for range 1 + r.IntN(6) {
				x := SampleRule{MaxAge: time.Hour + time.Duration(r.Int64N(int64(15*24*time.Hour))).Truncate(time.Second)}
				if r.IntN(3) > 0 {
					x.Model = pick(models)
				}
				if r.IntN(4) > 0 {
					x.Property = pick(properties)
				}
				if r.IntN(2) == 0 {
					x.Step = []time.Duration{5 * time.Minute, time.Hour, 24 * time.Hour, 90 * time.Second}[r.IntN(4)]
					if r.IntN(2) == 0 {
						x.StepMaxAge = x.MaxAge + time.Duration(r.Int64N(int64(10*24*time.Hour)))
					}
				}
				if !slices.ContainsFunc(rules, func(o SampleRule) bool { return o.Model == x.Model && o.Property == x.Property }) {
					rules = append(rules, x)
				}
			}
			project := pick(projects)
			would, err := e.Expired(t.Context(), project, SampleRules{List: rules}, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := p.differs(t, e); diff != "" {
				t.Fatalf("seed %d, round %d: to ask changed it: %s", seed, round, diff)
			}
			_ = os.Remove(filepath.Join(dir, curatedFile)) // nothing waits until more comes together
			did, err := e.Curate(t.Context(), project, SampleRules{List: rules}, now, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := p.curate(project, rules, now)
			if !maps.Equal(would.Properties, want) || !maps.Equal(did.Properties, want) || would.Samples != did.Samples || would.Series != did.Series {
				t.Fatalf("seed %d, round %d, %+v: it would let go %v, it did %v, want %v", seed, round, rules, would, did, want)
			}
			if diff := p.differs(t, e); diff != "" {
				t.Fatalf("seed %d, round %d, %+v: %s", seed, round, rules, diff)
			}
			fill(5)
			now = now.Add(time.Duration(r.Int64N(int64(3 * 24 * time.Hour))))
		}
	}
}
