package history

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// firstWindow is the part of the range, from its end, that raw samples are asked of first. It doubles from there, so
	// that a few of the newest of a long range cost little.
	firstWindow = time.Hour
	// maxSteps is the most points asked of the server at once. Servers refuse more than 11,000 to 30,000.
	maxSteps = 10_000
	// rowsPerLine bounds a line of an export, and so what is read at once.
	rowsPerLine = 2_000
	// latency is longer than any server hides its newest samples for. In answers to query_range a server repeats, for steps
	// closer to its clock than -search.latencyOffset (30 s), the value before, and old ones cannot be told to leave that.
	latency = time.Hour
)

// querier turns queries into requests of the Prometheus API, the same for the server in this process and one elsewhere.
type querier struct {
	// fetch answers a request, whose path begins with /api/v1, by a stream that the caller closes.
	fetch func(ctx context.Context, r *http.Request) (io.ReadCloser, error)
	// eval, where not nil, evaluates an expression at first, first+step … last without a request.
	eval func(ctx context.Context, expr string, first, last, step int64, fn eachSeries) error
	// hasRolled, where not nil, says whether a project may have aggregates of samples that went.
	hasRolled func(project string) bool
}

// run answers a checked query.
func (s *querier) run(ctx context.Context, q Query) (Result, error) {
	if q.Step > 0 {
		return s.steps(ctx, q)
	}
	return s.raw(ctx, q)
}

// chosen are series of one property; several of a twin, where its model changed. twin is the filter's operator and value.
type chosen struct{ project, property, twin string }

func (c chosen) match() string { return c.of("=" + quote(c.property)) }

// only narrows it to some twins.
func (c chosen) only(twins map[string]bool) chosen {
	c.twin = "=~" + quote(pattern(slices.Collect(maps.Keys(twins))))
	return c
}

// rolled selects the aggregates of some kinds, whatever their steps.
func (c chosen) rolled(kinds ...int) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = rolledNames[k]
	}
	return c.of("=~" + quote(pattern([]string{c.property})+"/[^/]+/("+strings.Join(names, "|")+")"))
}

func (c chosen) of(property string) string {
	return Metric + `{project=` + quote(c.project) + `,twin` + c.twin + `,property` + property + `}`
}

func (q *Query) chosen() chosen { return chosen{q.Project, q.Property, "=" + quote(q.Twin)} }

// quote writes a label's value as MetricsQL reads it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// raw walks back from the end of the range until it has more points than the limit.
func (s *querier) raw(ctx context.Context, q Query) (Result, error) {
	first, last := q.Start.UnixMilli(), q.End.UnixMilli()
	var parts [][]Point // newest first
	n := 0
	for window := firstWindow.Milliseconds(); last >= first && n <= q.Limit; window *= 2 {
		from := max(first, last-window+1)
		points, err := s.export(ctx, q.chosen().match(), from, last, q.Limit+1-n)
		if err != nil {
			return Result{}, err
		}
		parts, n, last = append(parts, points), n+len(points), from-1
	}
	slices.Reverse(parts)
	return cut(slices.Concat(parts...), q.Limit), nil
}

// cut keeps the newest.
func cut(points []Point, limit int) Result {
	if over := len(points) - limit; over > 0 {
		return Result{Points: points[over:], Truncated: true}
	}
	return Result{Points: points}
}

// export returns the newest n samples of the series that match, from first to last, both included, oldest first. What is
// there twice, as the queue sends again after a crash, is once.
func (s *querier) export(ctx context.Context, match string, first, last int64, n int) ([]Point, error) {
	body, err := s.fetch(ctx, request("/api/v1/export", url.Values{
		"match[]": {match},
		// A millisecond more on each side: the server's parser of times rounds. What is too much is left out below.
		"start":             {seconds(max(0, first-1))},
		"end":               {seconds(last + 1)},
		"max_rows_per_line": {strconv.Itoa(rowsPerLine)},
	}))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	rings := map[string]*ring{}
	for lines := bufio.NewReaderSize(body, 64<<10); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0 {
			break
		} else if err != nil {
			return nil, answerBroken(ctx, err)
		}
		if err := exportLine(line, func(series []byte) func(at int64, v float64) {
			r := rings[string(series)]
			if r == nil {
				r = &ring{limit: n}
				rings[string(series)] = r
			}
			return func(at int64, v float64) {
				if at >= first && at <= last {
					r.add(Point{at, v})
				}
			}
		}); err != nil {
			return nil, answerBroken(ctx, err)
		}
	}
	var points []Point
	for _, r := range rings {
		points = append(points, r.points()...)
	}
	slices.SortStableFunc(points, func(a, b Point) int { return cmp.Or(byTime(a, b), cmp.Compare(a.Value, b.Value)) })
	points = slices.Compact(points)
	return points[max(0, len(points)-n):], nil
}

// exportLine reads a line of an export, {"metric":{…},"values":[…],"timestamps":[…]}: a part of one series. It is almost
// JSON; but old servers, such as v1.79, write +Inf bare. A quote within a label's value has a backslash before it, so the names
// that are looked for are none of a label's text.
func exportLine(line []byte, begin func(series []byte) func(at int64, v float64)) error {
	series, rest, ok1 := bytes.Cut(line, []byte(`,"values":[`))
	values, rest, ok2 := bytes.Cut(rest, []byte(`],"timestamps":[`))
	times, _, ok3 := bytes.Cut(rest, []byte(`]`))
	if !ok1 || !ok2 || !ok3 {
		return fmt.Errorf("line %.100q is none of an export", line)
	}
	point := begin(series)
	for len(times) > 0 {
		var t, v []byte
		t, times, _ = bytes.Cut(times, []byte(","))
		v, values, _ = bytes.Cut(values, []byte(","))
		at, err := strconv.ParseInt(string(t), 10, 64)
		if err != nil {
			return err
		}
		var f number
		if err := f.UnmarshalJSON(v); err != nil {
			return err
		}
		if !math.IsNaN(float64(f)) {
			point(at, float64(f))
		}
	}
	return nil
}

func byTime(a, b Point) int { return cmp.Compare(a.Time, b.Time) }

// ring keeps the last limit points added, of equal ones in a row one.
type ring struct {
	limit int
	buf   []Point
	next  int
	last  Point
}

func (r *ring) add(p Point) {
	if len(r.buf) > 0 && p == r.last {
		return
	}
	r.last = p
	if len(r.buf) < r.limit {
		r.buf = append(r.buf, p)
		return
	}
	r.buf[r.next] = p
	r.next = (r.next + 1) % r.limit
}

func (r *ring) points() []Point { return slices.Concat(r.buf[r.next:], r.buf[:r.next]) }

// steps asks for one point per step, the newest Limit steps of the range.
func (s *querier) steps(ctx context.Context, q Query) (Result, error) {
	first, last, step := q.Start.UnixMilli(), q.End.UnixMilli(), q.Step.Milliseconds()
	n := (last-first)/step + 1
	truncated := n > int64(q.Limit)
	n = min(n, int64(q.Limit))
	agg, err := aggregateOf(q.Aggregate)
	if err != nil {
		return Result{}, err
	}
	begin := last - (n-1)*step
	all, err := s.inSteps(ctx, q.chosen(), agg, begin, step, int(n))
	if err != nil {
		return Result{}, err
	}
	if truncated { // there are more steps; whether there is anything in them is another question
		older, err := s.inSteps(ctx, q.chosen(), aggregate{name: "count", expr: countExpr}, begin-step, begin-step-first+step, 1)
		if err != nil {
			return Result{}, err
		}
		truncated = len(older) > 0
	}
	points := []Point{}
	for _, values := range all { // of one twin
		for i, v := range values {
			if !math.IsNaN(v) {
				points = append(points, Point{begin + int64(i)*step, v})
			}
		}
	}
	return Result{Points: points, Truncated: truncated}, nil
}

// number is a JSON number, one in quotes, or null for what is none.
type number float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = number(math.NaN())
		return nil
	}
	f, err := strconv.ParseFloat(string(bytes.Trim(b, `"`)), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return err
	}
	*n = number(f)
	return nil
}

// seconds writes milliseconds since 1970 as seconds, exactly.
func seconds(ms int64) string {
	return fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
}

// request builds a request by POST: selectors may be longer than an address can be.
func request(path string, args url.Values) *http.Request {
	r, err := http.NewRequest(http.MethodPost, path, strings.NewReader(args.Encode()))
	if err != nil {
		panic(err) // the paths are ours
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// statusError is an answer other than success.
type statusError struct {
	kind error
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%v: status %d: %s", e.kind, e.code, e.text) }
func (e *statusError) Unwrap() error { return e.kind }

// answerError is the error of an answer other than success.
func answerError(status int, body io.Reader) error {
	text, _ := io.ReadAll(io.LimitReader(body, 1<<10))
	kind := ErrUnavailable
	if status >= 400 && status < 500 && status != http.StatusTooManyRequests {
		kind = ErrQuery
	}
	return &statusError{kind, status, string(bytes.TrimSpace(text))}
}

// answerBroken is the error of an answer that ended too early.
func answerBroken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: read answer: %w", ErrUnavailable, err)
}
