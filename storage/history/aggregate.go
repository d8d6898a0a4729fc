package history

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Aggregates are the names of what a step's point can be, beside the percentiles p0 to p100, such as p95 and p99.9.
//
// dev is the standard deviation. delta is the change from the last value before the step to the last one in it; in the first
// step of a range that has values and none before them, from its first. rate is delta per second. Percentiles other than p0 and p100
// are refused where samples of the range went and left aggregates. first, last, dev and the
// percentiles are of the series that goes on longest where a twin changed its model within a step; the others are exact over
// both.
var Aggregates = [...]string{"avg", "min", "max", "sum", "count", "dev", "first", "last", "delta", "rate"}

// aggregate is how one is computed.
type aggregate struct {
	name string
	// expr in MetricsQL, of the samples of a step.
	expr string
	// plain, where not empty, is the same of a twin with one series, and cheaper.
	plain string
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
		return aggregate{expr: "stddev_over_time(%s)"}, nil
	case "first", "last":
		return aggregate{expr: name + "_over_time(%s)"}, nil
	case "delta", "rate":
		return aggregate{change: true, perSecond: name == "rate"}, nil
	}
	if digits, ok := strings.CutPrefix(name, "p"); ok && len(digits) <= 6 {
		if p, err := strconv.ParseFloat(digits, 64); err == nil && p >= 0 && p <= 100 {
			return aggregate{expr: "quantile_over_time(" + strconv.FormatFloat(p/100, 'f', -1, 64) + ", %s)"}, nil
		}
	}
	return aggregate{}, fmt.Errorf("%w: aggregate %q is none of %s, p0 … p100", ErrQuery, name, strings.Join(Aggregates[:], ", "))
}

// aligned gives, by twin, one value for each of n steps that end at begin, begin+step and so on; NaN where there is none.
func (s *querier) aligned(ctx context.Context, match string, a aggregate, begin, step int64, n int) (map[string][]float64, error) {
	if a.plain != "" {
		all, several, err := s.matrix(ctx, a.plain, match, begin, step, n)
		if err != nil || !several {
			return all, err
		}
	}
	if !a.change {
		all, _, err := s.matrix(ctx, a.expr, match, begin, step, n)
		return all, err
	}
	// One step more: what was before the first.
	first, _, err := s.matrix(ctx, "first_over_time(%s)", match, begin-step, step, n+1)
	if err != nil {
		return nil, err
	}
	last, _, err := s.matrix(ctx, "last_over_time(%s)", match, begin-step, step, n+1)
	if err != nil {
		return nil, err
	}
	return a.changes(first, last, step, n), nil
}

// changes of n steps, of the first and the last values of these and of one step before them.
func (a *aggregate) changes(first, last map[string][]float64, step int64, n int) map[string][]float64 {
	out := make(map[string][]float64, len(last))
	for twin, ends := range last {
		begins := first[twin]
		values := make([]float64, n)
		before := ends[0]
		for i := range values {
			end := ends[i+1]
			from := before
			if math.IsNaN(from) && begins != nil {
				from = begins[i+1]
			}
			values[i] = end - from
			if a.perSecond {
				values[i] /= float64(step) / 1000
			}
			if !math.IsNaN(end) {
				before = end
			}
		}
		out[twin] = values
	}
	return out
}
