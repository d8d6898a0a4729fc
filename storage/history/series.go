package history

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SeriesQuery asks for one property of several twins of a project, in steps.
type SeriesQuery struct {
	Project, Property string
	// Twins by name, without the project; at most MaxTwins.
	Twins []string
	// End is where the last step ends; there are Steps of the length Step, at most MaxLimit.
	End   time.Time
	Step  time.Duration
	Steps int
	// Aggregate of the samples of a step; empty: avg.
	Aggregate string
}

// MaxTwins of one query of series.
const MaxTwins = 10_000

// MaxPoints of one query of series, over all twins: they are in memory at once, at 8 bytes each.
const MaxPoints = 4_000_000

// Series of a twin: a value per step, NaN where the step has no samples.
type Series struct {
	Twin   string
	Values []float64
}

// chunkPoints is how many points are asked of the server at once.
const chunkPoints = 500_000

func (q *SeriesQuery) check() error {
	switch {
	case q.Project == "" || q.Property == "":
		return fmt.Errorf("%w: project or property is empty", ErrQuery)
	case len(q.Twins) > MaxTwins:
		return fmt.Errorf("%w: %d twins, %d are allowed", ErrQuery, len(q.Twins), MaxTwins)
	case q.Step < time.Millisecond:
		return fmt.Errorf("%w: step %s is below a millisecond", ErrQuery, q.Step)
	case q.Steps < 1 || q.Steps > MaxLimit:
		return fmt.Errorf("%w: %d steps, 1 to %d are allowed", ErrQuery, q.Steps, MaxLimit)
	case q.Steps*len(q.Twins) > MaxPoints:
		return fmt.Errorf("%w: %d twins of %d steps are more than %d points", ErrQuery, len(q.Twins), q.Steps, MaxPoints)
	}
	_, err := aggregateOf(q.Aggregate)
	return err
}

// series answers a checked query. Twins without samples have no series; the others come in the order of the query.
func (s *querier) series(ctx context.Context, q SeriesQuery) ([]Series, error) {
	a, err := aggregateOf(q.Aggregate)
	if err != nil {
		return nil, err
	}
	step := q.Step.Milliseconds()
	begin := q.End.UnixMilli() - int64(q.Steps-1)*step
	var out []Series
	for twins := range slices.Chunk(q.Twins, max(1, chunkPoints/q.Steps)) {
		all, err := s.inSteps(ctx, chosen{q.Project, q.Property, "=~" + quote(pattern(twins))}, a, begin, step, q.Steps)
		if err != nil {
			return nil, err
		}
		for _, twin := range twins {
			if values := all[twin]; values != nil {
				out = append(out, Series{twin, values})
			}
		}
	}
	return out, nil
}

// matrix evaluates expr, in which %s is the samples of a step, at n times from begin on, and gives the values by twin; several are the
// twins that had more than one series.
func (s *querier) matrix(ctx context.Context, expr, match string, begin, step int64, n int) (all map[string][]float64, several map[string]bool, err error) {
	type found struct {
		values []float64
		last   int
	}
	twins := map[string]found{}
	several = map[string]bool{}
	for at := 0; at < n; at += maxSteps {
		m := min(maxSteps, n-at)
		first := begin + int64(at)*step
		seen := map[string]bool{}
		err := s.queryRange(ctx, expr, match, first, first+int64(m-1)*step, step, func(twin string, values func(func(at int64, v float64)) error) error {
			if seen[twin] {
				several[twin] = true
			}
			seen[twin] = true
			one := make([]float64, m)
			for i := range one {
				one[i] = math.NaN()
			}
			last := -1
			err := values(func(t int64, v float64) {
				// The server's times are off by a millisecond at times: take the step that is meant.
				k := int(math.Round(float64(t-first) / float64(step)))
				if k >= 0 && k < m && !math.IsNaN(v) {
					one[k], last = v, max(last, k)
				}
			})
			if err != nil || last < 0 {
				return err
			}
			f, ok := twins[twin]
			if !ok && m == n {
				twins[twin] = found{one, last}
				return nil
			}
			if !ok {
				f.values, f.last = make([]float64, n), -1
				for i := range f.values {
					f.values[i] = math.NaN()
				}
			}
			// Of several series, as a twin that changed its model has, the one that goes on longest counts.
			for i, v := range one {
				if !math.IsNaN(v) && (at+last >= f.last || math.IsNaN(f.values[at+i])) {
					f.values[at+i] = v
				}
			}
			f.last = max(f.last, at+last)
			twins[twin] = f
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	all = make(map[string][]float64, len(twins))
	for twin, f := range twins {
		all[twin] = f.values
	}
	return all, several, nil
}

// eachSeries is called with each series of an answer: its twin, and what walks over its points.
type eachSeries func(twin string, values func(func(at int64, v float64)) error) error

// queryRange evaluates the expression at first, first+step … last. A server elsewhere is asked for an earlier time, of samples that
// are as much later, so that no step is close to its clock.
func (s *querier) queryRange(ctx context.Context, expr, match string, first, last, step int64, fn eachSeries) error {
	window := strconv.FormatInt(step, 10) + "ms"
	back := min(latency.Milliseconds(), max(0, first))
	if s.eval != nil {
		back = 0
	}
	series := match + "[" + window + "]"
	if back > 0 {
		series += " offset -" + strconv.FormatInt(back, 10) + "ms"
	}
	if strings.Contains(expr, "%[1]s") {
		expr = strings.ReplaceAll(expr, "%[1]s", series)
	} else {
		expr = strings.Replace(expr, "%s", series, 1)
	}
	if s.eval != nil {
		return s.eval(ctx, expr, first, last, step, fn)
	}
	body, err := s.fetch(ctx, request("/api/v1/query_range", url.Values{
		"query":   {expr},
		"start":   {seconds(first - back)},
		"end":     {seconds(last - back)},
		"step":    {window},
		"nocache": {"1"}, // with a cache, the server moves start and end
	}))
	if err != nil {
		return err
	}
	defer body.Close()
	err = newMatrixReader(body, back).read(func(metric []byte, values func(func(at int64, v float64)) error) error {
		var labels struct {
			Twin string `json:"twin"`
		}
		if err := json.Unmarshal(metric, &labels); err != nil {
			return err
		}
		return fn(labels.Twin, values)
	})
	if err != nil {
		return answerBroken(ctx, err)
	}
	return nil
}

// matrixReader reads an answer of query_range, {…"result":[{"metric":{…},"values":[[time,"value"],…]},…]…}, as it comes: it may have
// a million points, for which encoding/json takes longer than the server takes to find them.
type matrixReader struct {
	r    *bufio.Reader
	back int64
	buf  []byte
}

func newMatrixReader(r io.Reader, back int64) *matrixReader {
	return &matrixReader{r: bufio.NewReaderSize(r, 64<<10), back: back}
}

func (m *matrixReader) read(fn func(metric []byte, values func(func(at int64, v float64)) error) error) error {
	if err := m.skip(`"result":[`); err != nil {
		return err
	}
	for {
		c, err := m.r.ReadByte()
		switch {
		case err != nil:
			return err
		case c == ',':
			continue
		case c == ']':
			_, err := io.Copy(io.Discard, m.r)
			return err
		case c != '{':
			return fmt.Errorf("%q where a series begins", c)
		}
		if err := m.skip(`"metric":`); err != nil {
			return err
		}
		metric, err := m.object()
		if err != nil {
			return err
		}
		if err := m.skip(`"values":[`); err != nil {
			return err
		}
		if err := fn(metric, m.values); err != nil {
			return err
		}
		if err := m.skip("}"); err != nil {
			return err
		}
	}
}

// skip reads on behind the words. What comes before them in an answer is short and holds no part of them.
func (m *matrixReader) skip(words string) error {
	for at := 0; at < len(words); {
		c, err := m.r.ReadByte()
		if err != nil {
			return noEOF(err)
		}
		switch c {
		case words[at]:
			at++
		case words[0]:
			at = 1
		default:
			at = 0
		}
	}
	return nil
}

// object reads one JSON object of labels.
func (m *matrixReader) object() ([]byte, error) {
	m.buf = m.buf[:0]
	for depth, text := 0, false; ; {
		c, err := m.r.ReadByte()
		if err != nil {
			return nil, noEOF(err)
		}
		m.buf = append(m.buf, c)
		switch {
		case text && c == '\\':
			if c, err = m.r.ReadByte(); err != nil {
				return nil, noEOF(err)
			}
			m.buf = append(m.buf, c)
		case c == '"':
			text = !text
		case text:
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return m.buf, nil
			}
		}
		if len(m.buf) > maxExportLine*16 {
			return nil, errors.New("labels too long")
		}
	}
}

// values reads the points up to the end of their list.
func (m *matrixReader) values(fn func(at int64, v float64)) error {
	for {
		part, err := m.r.ReadSlice(']')
		if err != nil {
			return noEOF(err)
		}
		if len(part) == 1 { // the list's own
			return nil
		}
		part = bytes.TrimLeft(part[:len(part)-1], ",[")
		t, v, ok := bytes.Cut(part, []byte(","))
		if !ok {
			return fmt.Errorf("point %.60q", part)
		}
		at, err := milliseconds(t)
		if err != nil {
			return err
		}
		var f number
		if err := f.UnmarshalJSON(v); err != nil {
			return err
		}
		fn(at+m.back, float64(f))
	}
}

// milliseconds reads seconds with up to three places.
func milliseconds(text []byte) (int64, error) {
	whole, part, _ := bytes.Cut(text, []byte("."))
	s, err := strconv.ParseInt(string(whole), 10, 64)
	if err != nil || len(part) == 0 {
		return s * 1000, err
	}
	if len(part) > 9 {
		part = part[:9]
	}
	f, err := strconv.ParseFloat("0."+string(part), 64)
	return s*1000 + int64(math.Round(f*1000)), err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Series implements History.
func (e *Embedded) Series(ctx context.Context, q SeriesQuery) ([]Series, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := e.enter(); err != nil {
		return nil, err
	}
	defer e.leave()
	e.moving.RLock()
	defer e.moving.RUnlock()
	e.freshen()
	return e.query.series(ctx, q)
}

// Series implements History.
func (r *Remote) Series(ctx context.Context, q SeriesQuery) ([]Series, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	return r.query.series(ctx, q)
}
