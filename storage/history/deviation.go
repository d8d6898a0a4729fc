package history

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// maxParts bounds the aggregates that are in memory while a standard deviation is made of them, at about 100 bytes each.
const maxParts = 1_000_000

// moments are the number of some samples, their mean, and the sum of the squares of their distances from it. Two of them are joined
// without squares of the samples themselves, in which the digits of a large mean would drown the spread (T. F. Chan, G. H. Golub,
// R. J. LeVeque, 1979).
type moments struct{ n, mean, squares float64 }

// join takes in n samples with a mean and a standard deviation.
func (m *moments) join(n, mean, dev float64) {
	if n <= 0 {
		return
	}
	all, apart := m.n+n, mean-m.mean
	m.squares += dev*dev*n + apart*apart*m.n*n/all
	m.mean += apart * n / all
	m.n = all
}

// dev is the standard deviation: of all samples, as MetricsQL's stddev_over_time, not of a choice of them.
func (m *moments) dev() float64 {
	if m.n == 0 {
		return math.NaN()
	}
	return math.Sqrt(m.squares / m.n)
}

// part is an aggregate whose count, sum and standard deviation come one after the other.
type part struct {
	values [3]float64
	have   uint8 // a bit of each
}

// partOf is where the value of a kind goes in it.
var partOf = map[string]int{rolledNames[rolledCount]: 0, rolledNames[rolledSum]: 1, rolledNames[rolledDev]: 2}

// whichPart is the aggregate of one series, or what was made of it, at a time.
type whichPart struct {
	series string
	at     int64
}

// joinedDeviation is the standard deviation of raw samples and of those that went, in n steps. raw is that of the raw ones.
func (s *querier) joinedDeviation(ctx context.Context, c chosen, raw map[string][]float64, begin, step int64, n int) (map[string][]float64, error) {
	all := map[string][]moments{}
	of := func(twin string) []moments {
		if all[twin] == nil {
			all[twin] = make([]moments, n)
		}
		return all[twin]
	}
	if err := s.joinParts(ctx, c, begin, step, n, of); err != nil || len(all) == 0 {
		return raw, err
	}
	counts, _, err := s.matrix(ctx, countExpr, c.match(), begin, step, n)
	if err != nil {
		return nil, err
	}
	mean, err := aggregateOf("avg")
	if err != nil {
		return nil, err
	}
	means, err := s.aligned(ctx, c, chosen.match, mean, begin, step, n)
	if err != nil {
		return nil, err
	}
	for twin, devs := range raw {
		steps := of(twin)
		for i, dev := range devs {
			if counts[twin] != nil && means[twin] != nil && !math.IsNaN(dev) && !math.IsNaN(counts[twin][i]) {
				steps[i].join(counts[twin][i], means[twin][i], dev)
			}
		}
	}
	out := make(map[string][]float64, len(all))
	for twin, steps := range all {
		values := make([]float64, n)
		for i := range steps {
			values[i] = steps[i].dev()
		}
		out[twin] = values
	}
	return out, nil
}

// joinParts brings each aggregate to its step.
func (s *querier) joinParts(ctx context.Context, c chosen, begin, step int64, n int, of func(twin string) []moments) error {
	first, last := begin-step+1, begin+int64(n-1)*step
	parts := map[whichPart]*part{}
	err := s.walkMatch(ctx, c.rolled(rolledCount, rolledSum, rolledDev), max(0, first), last, func(t storage.TwinSamples) error {
		property := t.Samples[0].Property
		cut := strings.LastIndexByte(property, '/')
		kind, known := partOf[property[cut+1:]]
		if !known {
			return nil
		}
		series := t.Twin + "\x00" + t.Model + "\x00" + property[:cut]
		for _, x := range t.Samples {
			key := whichPart{series, x.Time}
			p := parts[key]
			if p == nil {
				if len(parts) == maxParts {
					return fmt.Errorf("%w: the standard deviation is of more than %d aggregates: ask for less time, or of fewer twins", ErrQuery, maxParts)
				}
				p = &part{}
				parts[key] = p
			}
			p.values[kind] = x.Value
			if p.have |= 1 << kind; p.have == 1<<len(p.values)-1 {
				delete(parts, key)
				of(t.Twin)[(x.Time-first)/step].join(p.values[0], p.values[1]/p.values[0], p.values[2])
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	newest := int64(-1)
	for key := range parts {
		newest = max(newest, key.at)
	}
	if newest >= 0 {
		return fmt.Errorf("%w: aggregate dev: what is left of the samples up to %s was made by a version that did not keep standard deviations; ask for a later start, or for avg, min or max",
			ErrQuery, momentText(newest))
	}
	return nil
}

// percentile gives raw where no sample of the steps went: of aggregates only the lowest and the highest can be told.
func (s *querier) percentile(ctx context.Context, c chosen, a aggregate, raw map[string][]float64, begin, step int64, n int) (map[string][]float64, error) {
	if p, err := strconv.ParseFloat(a.name[1:], 64); err == nil && (p == 0 || p == 100) {
		name := "min"
		if p == 100 {
			name = "max"
		}
		extreme, err := aggregateOf(name)
		if err != nil {
			return nil, err
		}
		return s.inSteps(ctx, c, extreme, begin, step, n)
	}
	old, _, err := s.matrix(ctx, "sum(sum_over_time(%s)) by (twin)", c.rolled(rolledCount), begin, step, n)
	if err != nil {
		return nil, err
	}
	newest := -1
	for _, values := range old {
		for i, v := range values {
			if !math.IsNaN(v) {
				newest = max(newest, i)
			}
		}
	}
	if newest >= 0 {
		return nil, fmt.Errorf("%w: aggregate %s needs the samples themselves, and those of %s up to %s were made into aggregates by the project's retention; ask for a later start, or for avg, dev, min, max, p0 or p100",
			ErrQuery, a.name, c.property, momentText(begin+int64(newest)*step))
	}
	return raw, nil
}

func momentText(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
