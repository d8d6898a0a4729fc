package history

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
)

// rolledProjects remembers which projects have aggregates of samples that went; for the others queries need not ask.
type rolledProjects struct {
	mu    sync.Mutex
	known map[string]rolledProject
}

type rolledProject struct {
	has   bool
	until time.Time // zero: for ever
}

// add says that a project has some.
func (r *rolledProjects) add(project string) { r.learn(project, rolledProject{has: true}) }

func (r *rolledProjects) learn(project string, k rolledProject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]rolledProject{}
	}
	if !r.known[project].has {
		r.known[project] = k
	}
}

// forget what is known, as samples came from elsewhere.
func (r *rolledProjects) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = nil
}

// ask says whether a project may have some. What look finds not to be there is so for a time, 0 for until somebody adds it.
func (r *rolledProjects) ask(project string, stays time.Duration, look func() (bool, error)) bool {
	r.mu.Lock()
	k, ok := r.known[project]
	r.mu.Unlock()
	if ok && (k.has || k.until.IsZero() || time.Now().Before(k.until)) {
		return k.has
	}
	found, err := look()
	if err != nil {
		return true // asking costs time and does no harm
	}
	k = rolledProject{has: found}
	if stays > 0 && !found {
		k.until = time.Now().Add(stays)
	}
	r.learn(project, k)
	return found
}

// withAggregates matches the property of one of the aggregates of each step.
const withAggregates = ".+/[0-9]+(ms|s|m|h|d)/count"

func (e *Embedded) hasRolled(project string) bool {
	return e.rolled.ask(project, 0, func() (bool, error) {
		of := append(filters("project", project), vm.TagFilter{Key: []byte("property"), Value: []byte(withAggregates), IsRegexp: true})
		found, err := e.labels("project", of, time.Now().UnixMilli())
		return len(found) > 0, err
	})
}

// SeriesToday counts the series of a project that have samples of this day, in UTC.
func (e *Embedded) SeriesToday(project string) (n uint64, err error) {
	if err := e.enter(); err != nil {
		return 0, err
	}
	defer e.leave()
	e.freshen()
	now := time.Now().UnixMilli()
	q := vm.NewSearchQuery(now-now%(24*time.Hour).Milliseconds(), now, [][]vm.TagFilter{filters("project", project)}, maxSeries)
	if gerr := guarded("count series", func() {
		var s *vm.TSDBStatus
		if s, err = vmstorage.VMSelectAPI.TSDBStatus(nil, q, "", 1, uint64(time.Now().Add(time.Minute).Unix())); err == nil {
			n = s.TotalSeries
		}
	}); gerr != nil {
		err = gerr
	}
	if err != nil {
		return 0, fmt.Errorf("count series: %w", err)
	}
	return n, nil
}

// inSteps is aligned of the raw samples and of the aggregates of those that went. A sample is in one of the two.
func (s *querier) inSteps(ctx context.Context, c chosen, a aggregate, begin, step int64, n int) (map[string][]float64, error) {
	if a.change {
		return s.changes(ctx, c, a, begin, step, n)
	}
	raw, err := s.aligned(ctx, c, chosen.match, a, begin, step, n)
	if err != nil || s.hasRolled == nil || !s.hasRolled(c.project) {
		return raw, err
	}
	rolled := func(kind int, a aggregate) (map[string][]float64, error) {
		return s.aligned(ctx, c, func(c chosen) string { return c.rolled(kind) }, a, begin, step, n)
	}
	adds := aggregate{expr: "sum(sum_over_time(%s)) by (twin)"}
	switch a.name {
	case "count", "sum":
		old, err := rolled(map[string]int{"count": rolledCount, "sum": rolledSum}[a.name], adds)
		return joined(raw, old, func(a, b float64) float64 { return a + b }), err
	case "min":
		old, err := rolled(rolledMin, a)
		return joined(raw, old, math.Min), err
	case "max":
		old, err := rolled(rolledMax, a)
		return joined(raw, old, math.Max), err
	case "first":
		return s.joinedEnds(ctx, c, a, rolledFirst, raw, begin, step, n)
	case "last":
		return s.joinedEnds(ctx, c, a, rolledLast, raw, begin, step, n)
	case "", "avg":
		return s.joinedAverage(ctx, c, raw, begin, step, n)
	case "dev":
		return s.joinedDeviation(ctx, c, raw, begin, step, n)
	}
	return s.percentile(ctx, c, a, raw, begin, step, n)
}

// joinedEnds gives the first or the last of raw samples and of those that went. Where a step has both, the raw ones are mostly the newer; but
// some may have come late.
func (s *querier) joinedEnds(ctx context.Context, c chosen, a aggregate, kind int, raw map[string][]float64, begin, step int64, n int) (map[string][]float64, error) {
	rolled := func(c chosen) string { return c.rolled(kind) }
	old, err := s.aligned(ctx, c, rolled, a, begin, step, n)
	if err != nil {
		return nil, err
	}
	both := func(twin string, i int) bool {
		return raw[twin] != nil && !math.IsNaN(raw[twin][i]) && !math.IsNaN(old[twin][i])
	}
	from, to := n, 0 // the steps that have both are between
	for twin := range old {
		for i := range n {
			if both(twin, i) {
				from, to = min(from, i), max(to, i+1)
			}
		}
	}
	keepRaw := func(raw, _ float64) float64 { return raw }
	if from >= to {
		return joined(raw, old, keepRaw), nil
	}
	when := aggregate{expr: "t" + a.expr, of: func(g *gathered) float64 { return float64(g.last.Time) / 1000 }}
	if a.name == "first" {
		when.of = func(g *gathered) float64 { return float64(g.first.Time) / 1000 }
	}
	begin += int64(from) * step
	rawAt, err := s.aligned(ctx, c, chosen.match, when, begin, step, to-from)
	if err != nil {
		return nil, err
	}
	oldAt, err := s.aligned(ctx, c, rolled, when, begin, step, to-from)
	if err != nil {
		return nil, err
	}
	for twin := range old {
		for i := from; i < to && rawAt[twin] != nil && oldAt[twin] != nil; i++ {
			if older := oldAt[twin][i-from] < rawAt[twin][i-from]; both(twin, i) && older == (a.name == "first") {
				raw[twin][i] = old[twin][i]
			}
		}
	}
	return joined(raw, old, keepRaw), nil
}

func (s *querier) joinedAverage(ctx context.Context, c chosen, raw map[string][]float64, begin, step int64, n int) (map[string][]float64, error) {
	old, _, err := s.matrix(ctx, "sum(sum_over_time(%s)) by (twin)", c.rolled(rolledCount), begin, step, n)
	if err != nil || len(old) == 0 {
		return raw, err
	}
	sums, err := s.inSteps(ctx, c, aggregate{name: "sum", expr: "sum(sum_over_time(%s)) by (twin)"}, begin, step, n)
	if err != nil {
		return nil, err
	}
	counts, err := s.inSteps(ctx, c, aggregate{name: "count", expr: countExpr}, begin, step, n)
	if err != nil {
		return nil, err
	}
	for twin, values := range sums {
		for i := range values {
			values[i] /= counts[twin][i]
		}
	}
	return sums, nil
}

// joined puts the values of each twin together; those that only one of the two has are its own.
func joined(raw, old map[string][]float64, both func(raw, old float64) float64) map[string][]float64 {
	for twin, values := range old {
		have, ok := raw[twin]
		if !ok {
			raw[twin] = values
			continue
		}
		for i, v := range values {
			switch {
			case math.IsNaN(v):
			case math.IsNaN(have[i]):
				have[i] = v
			default:
				have[i] = both(have[i], v)
			}
		}
	}
	return raw
}
