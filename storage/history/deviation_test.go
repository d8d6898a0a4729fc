package history

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// truth is an aggregate of samples as a schoolbook has it.
func truth(values []float64, aggregate string) float64 {
	sum, squares := 0., 0.
	for _, v := range values {
		sum += v
	}
	mean := sum / float64(len(values))
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	switch aggregate {
	case "dev":
		return math.Sqrt(squares / float64(len(values)))
	case "avg":
		return mean
	case "sum":
		return sum
	case "count":
		return float64(len(values))
	case "min", "p0":
		return slices.Min(values)
	case "max", "p100":
		return slices.Max(values)
	case "first":
		return values[0]
	}
	return values[len(values)-1]
}

// Charts over samples that went are those of the samples themselves, in steps that aggregates fit into and in others, and the standard
// deviation of a meter that counts to a thousand millions as well; what aggregates cannot tell is refused.
func TestAggregatesAgainstTheSamples(t *testing.T) {
	takeTurn(t)
	e := openEmbedded(t, Options{Dir: t.TempDir()})
	start := time.Now().Add(-9 * time.Hour).Truncate(time.Hour)
	random := rand.New(rand.NewPCG(1, 2))
	var samples []storage.Sample
	for at := start.Add(time.Millisecond); at.Before(start.Add(8 * time.Hour)); at = at.Add(time.Duration(1+random.IntN(40_000)) * time.Millisecond) {
		samples = append(samples, storage.Sample{Property: "energy", Time: at.UnixMilli(), Value: 1e9 + math.Round(random.NormFloat64()*500)/100})
	}
	// Some come when the others of their step went already.
	late, now := samples[100:103:103], slices.Concat(samples[:100], samples[103:])
	// In the middle of a step the twin gets another model, in whose name it comes before the first one.
	change, _ := slices.BinarySearchFunc(now, start.Add(4*time.Hour+17*time.Minute+30*time.Second).UnixMilli(), func(s storage.Sample, ms int64) int { return cmp.Compare(s.Time, ms) })
	if err := e.Insert(t.Context(), 1, slices.Concat(one("house", "meter", "Meter", now[:change]...), one("house", "meter", "Counter", now[change:]...))); err != nil {
		t.Fatal(err)
	}
	e.dirty.Store(true)
	time.Sleep(flushPause)
	rules := SampleRules{List: []SampleRule{{Property: "energy", MaxAge: 2 * time.Hour, Step: 5 * time.Minute}}}
	if did, err := e.Curate(t.Context(), "house", rules, start.Add(7*time.Hour), nil); err != nil || did.Rolled == 0 {
		t.Fatalf("%+v: %v", did, err)
	}
	if err := e.Insert(t.Context(), 2, one("house", "meter", "Meter", late...)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(flushPause)
	if did, err := e.Curate(t.Context(), "house", rules, start.Add(7*time.Hour+30*time.Minute), nil); err != nil || did.Rolled < 3 {
		t.Fatalf("late ones: %+v: %v", did, err)
	}
	ask := func(from, to time.Time, step time.Duration, aggregate string) (Result, error) {
		return e.Query(t.Context(), Query{Project: "house", Twin: "meter", Property: "energy", Start: from.Add(step), End: to, Step: step, Aggregate: aggregate})
	}
	end := start.Add(8 * time.Hour)
	for _, step := range []time.Duration{5 * time.Minute, 35 * time.Minute, time.Hour, 8 * time.Hour} {
		for _, a := range []string{"dev", "avg", "sum", "count", "min", "max", "first", "last", "delta", "p0", "p100"} {
			from := end.Add(-step * (8 * time.Hour / step))
			got, err := ask(from, end, step, a)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range got.Points {
				var values []float64
				since := p.Time - step.Milliseconds() + 1
				for _, s := range samples {
					if s.Time >= since && s.Time <= p.Time {
						values = append(values, s.Value)
					}
				}
				want := truth(values, a)
				if a == "delta" {
					want = values[len(values)-1] - values[0]
					if before, _ := slices.BinarySearchFunc(samples, since, func(s storage.Sample, ms int64) int { return cmp.Compare(s.Time, ms) }); before > 0 {
						want = values[len(values)-1] - samples[before-1].Value
					}
				}
				if !(math.Abs(p.Value-want) <= 1e-9*max(1, math.Abs(want)) || a == "dev" && math.Abs(p.Value-want) < 1e-5) {
					t.Errorf("%s of %s up to %s: %v, want %v of %d", a, step, momentText(p.Time), p.Value, want, len(values))
				}
			}
			if want := int(end.Sub(from) / step); len(got.Points) != want {
				t.Errorf("%s of %s: %d points, want %d", a, step, len(got.Points), want)
			}
		}
	}
	// The newest samples that went are of half past five.
	if _, err := ask(start, end, time.Hour, "p95"); !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), "p95 needs the samples themselves") ||
		!strings.Contains(err.Error(), momentText(start.Add(6*time.Hour).UnixMilli())) {
		t.Errorf("a percentile of what went: %v", err)
	}
	if got, err := ask(start.Add(6*time.Hour), end, time.Hour, "p50"); err != nil || len(got.Points) != 2 {
		t.Errorf("a percentile of what is there: %v %v", got, err)
	}
}

func TestMoments(t *testing.T) {
	values := []float64{3, 1e9, -7, 7, 7, 0.25}
	var whole, left, right moments
	for i, v := range values {
		whole.join(1, v, 0)
		if side := &left; i < 2 {
			side.join(1, v, 0)
		} else {
			right.join(1, v, 0)
		}
	}
	left.join(right.n, right.mean, right.dev())
	left.join(0, math.NaN(), math.NaN())
	want := truth(values, "dev")
	if math.Abs(whole.dev()-want) > 1e-6 || math.Abs(left.dev()-want) > 1e-6 || left.n != 6 || !math.IsNaN((&moments{}).dev()) {
		t.Errorf("%v and %v, want %v", whole.dev(), left.dev(), want)
	}
}
