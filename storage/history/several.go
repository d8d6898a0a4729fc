package history

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/polluxhq/pollux/storage"
)

// gathered is what the samples of a step come to, of whatever series they are.
type gathered struct {
	first, last Point
	moments     moments
	// values are kept for what needs all of them.
	values []float64
}

func (g *gathered) add(p Point, keep bool) {
	if g.moments.n == 0 || p.Time < g.first.Time {
		g.first = p
	}
	if g.moments.n == 0 || p.Time > g.last.Time {
		g.last = p
	}
	g.moments.join(1, p.Value, 0)
	if keep {
		g.values = append(g.values, p.Value)
	}
}

// percentile lies between the two values that are nearest to it in their order, as MetricsQL's quantile_over_time does.
func (g *gathered) percentile(p float64) float64 {
	slices.Sort(g.values)
	rank := p / 100 * float64(len(g.values)-1)
	low := int(rank)
	high := min(low+1, len(g.values)-1)
	part := rank - math.Floor(rank)
	return g.values[low]*(1-part) + g.values[high]*part
}

// ofSamples computes an aggregate in n steps of the samples themselves: MetricsQL computes those that do not add up of one series only, and
// a twin that changed its model has several.
func (s *querier) ofSamples(ctx context.Context, match string, a aggregate, begin, step int64, n int) (map[string][]float64, error) {
	first, last := begin-step+1, begin+int64(n-1)*step
	all := map[string][]gathered{}
	kept := 0
	err := s.walkMatch(ctx, match, max(0, first), last, func(t storage.TwinSamples) error {
		steps := all[t.Twin]
		if steps == nil {
			steps = make([]gathered, n)
			all[t.Twin] = steps
		}
		if a.keeps {
			if kept += len(t.Samples); kept > maxParts {
				return fmt.Errorf("%w: aggregate %s is of more than %d samples of twins that changed their model: ask for less time, or of fewer twins",
					ErrQuery, a.name, maxParts)
			}
		}
		for _, x := range t.Samples {
			steps[(x.Time-first)/step].add(Point{x.Time, x.Value}, a.keeps)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make(map[string][]float64, len(all))
	for twin, steps := range all {
		values := make([]float64, n)
		for i := range steps {
			values[i] = math.NaN()
			if steps[i].moments.n > 0 {
				values[i] = a.of(&steps[i])
			}
		}
		out[twin] = values
	}
	return out, nil
}
