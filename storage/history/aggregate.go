package history

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
)

// Aggregates are the names of what a step's point can be, beside the percentiles p0 to p100, such as p95 and p99.9.
//
// dev is the standard deviation. delta is the change from the last value before the step to the last one in it; where there was none for
// lookBack, from the step's first. rate is delta per second. Percentiles other than p0 and p100 are refused where samples of the range
// went and left aggregates.
var Aggregates = [...]string{"avg", "min", "max", "sum", "count", "dev", "first", "last", "delta", "rate"}

// aggregate is how one is computed.
type aggregate struct {
	name string
	// expr in MetricsQL, of the samples of a step.
	expr string
	// plain, where not empty, is the same of a twin with one series, and cheaper.
	plain string
	// of, where not nil, computes it of a step's samples themselves: what expr gives is of one series, and a twin may have several. keeps:
	// it needs all of their values.
	of    func(*gathered) float64
	keeps bool
	// change: it is what first and last of the steps differ by; perSecond: and that over the time.
	change, perSecond bool
}

func aggregateOf(name string) (aggregate, error) {
	a, err := aggregateBy(name)
	a.name = name
	return a, err
}

// countExpr counts samples.
const countExpr = "sum(count_over_time(%s)) by (twin)"

func aggregateBy(name string) (aggregate, error) {
	switch name {
	case "", "avg":
		// Sums over models first: a twin that changed its model within a step still has one exact value there.
		return aggregate{expr: "sum(sum_over_time(%[1]s)) by (twin) / sum(count_over_time(%[1]s)) by (twin)", plain: "avg_over_time(%s)"}, nil
	case "min", "max":
		return aggregate{expr: name + "(" + name + "_over_time(%s)) by (twin)"}, nil
	case "sum", "count":
		return aggregate{expr: "sum(" + name + "_over_time(%s)) by (twin)"}, nil
	case "dev":
		return aggregate{expr: "stddev_over_time(%s)", of: func(g *gathered) float64 { return g.moments.dev() }}, nil
	case "first":
		return aggregate{expr: "first_over_time(%s)", of: func(g *gathered) float64 { return g.first.Value }}, nil
	case "last":
		return aggregate{expr: "last_over_time(%s)", of: func(g *gathered) float64 { return g.last.Value }}, nil
	case "delta", "rate":
		return aggregate{change: true, perSecond: name == "rate"}, nil
	}
	if digits, ok := strings.CutPrefix(name, "p"); ok && len(digits) <= 6 {
		if p, err := strconv.ParseFloat(digits, 64); err == nil && p >= 0 && p <= 100 {
			return aggregate{expr: "quantile_over_time(" + strconv.FormatFloat(p/100, 'f', -1, 64) + ", %s)", keeps: true,
				of: func(g *gathered) float64 { return g.percentile(p) }}, nil
		}
	}
	return aggregate{}, fmt.Errorf("%w: aggregate %q is none of %s, p0 … p100", ErrQuery, name, strings.Join(Aggregates[:], ", "))
}

// aligned gives, by twin, one value for each of n steps that end at begin, begin+step and so on; NaN where there is none. match selects the
// series, and a is no change.
func (s *querier) aligned(ctx context.Context, c chosen, match func(chosen) string, a aggregate, begin, step int64, n int) (map[string][]float64, error) {
	if a.plain != "" {
		all, several, err := s.matrix(ctx, a.plain, match(c), begin, step, n)
		if err != nil || len(several) == 0 {
			return all, err
		}
	}
	all, several, err := s.matrix(ctx, a.expr, match(c), begin, step, n)
	if err != nil || a.of == nil || len(several) == 0 {
		return all, err
	}
	exact, err := s.ofSamples(ctx, match(c.only(several)), a, begin, step, n)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, exact)
	return all, nil
}

// lookBack is how long before a step the value is looked for that it changed from.
const lookBack = 24 * time.Hour

// changes gives, by twin, by how much the last values of n steps differ from those before.
func (s *querier) changes(ctx context.Context, c chosen, a aggregate, begin, step int64, n int) (map[string][]float64, error) {
	of := func(name string, c chosen, begin, step int64, n int) (map[string][]float64, error) {
		a, err := aggregateOf(name)
		if err != nil {
			return nil, err
		}
		return s.inSteps(ctx, c, a, begin, step, n)
	}
	firsts, err := of("first", c, begin, step, n)
	if err != nil {
		return nil, err
	}
	lasts, err := of("last", c, begin, step, n)
	if err != nil {
		return nil, err
	}
	// What was before: mostly a value of the step before; the few that have none there have few samples.
	before := map[string][]float64{}
	for _, back := range []int64{step, lookBack.Milliseconds()} {
		missing := map[string]bool{}
		for twin := range lasts {
			missing[twin] = before[twin] == nil
		}
		maps.DeleteFunc(missing, func(_ string, is bool) bool { return !is })
		if len(missing) == 0 || back < step {
			break
		}
		found, err := of("last", c.only(missing), begin-step, back, 1)
		if err != nil {
			return nil, err
		}
		maps.Copy(before, found)
	}
	out := make(map[string][]float64, len(lasts))
	for twin, ends := range lasts {
		from := math.NaN()
		if b := before[twin]; b != nil {
			from = b[0]
		}
		values := make([]float64, n)
		for i, end := range ends {
			if math.IsNaN(from) && firsts[twin] != nil {
				from = firsts[twin][i]
			}
			values[i] = end - from
			if a.perSecond {
				values[i] /= float64(step) / 1000
			}
			if !math.IsNaN(end) {
				from = end
			}
		}
		out[twin] = values
	}
	return out, nil
}
