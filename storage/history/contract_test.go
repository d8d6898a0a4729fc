package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// whole is what both kinds are.
type whole interface {
	History
	Sink
	MetricSink
}

var (
	_ whole = (*Embedded)(nil)
	_ whole = (*Remote)(nil)
)

// flusher makes what was inserted visible at once.
type flusher interface{ flush() }

// base is a time of whole minutes, a while ago.
func base() time.Time { return time.Now().Add(-2 * time.Hour).Truncate(time.Minute) }

// one wraps samples as those of a twin.
func one(project, twin, model string, samples ...storage.Sample) []storage.TwinSamples {
	return []storage.TwinSamples{{Project: project, Twin: twin, Model: model, Samples: samples}}
}

// insert inserts and waits until the last sample shows.
func insert(t *testing.T, h whole, samples []storage.TwinSamples) {
	t.Helper()
	if err := h.Insert(t.Context(), 1, samples); err != nil {
		t.Fatal(err)
	}
	last := samples[len(samples)-1]
	s := last.Samples[len(last.Samples)-1]
	at := time.UnixMilli(s.Time)
	eventually(t, 30*time.Second, "inserted sample shows", func() bool {
		if f, ok := h.(flusher); ok {
			f.flush()
		}
		r, err := h.Query(t.Context(), Query{Project: last.Project, Twin: last.Twin, Property: s.Property, Start: at, End: at})
		if err != nil && !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		return len(r.Points) > 0
	})
}

func query(t *testing.T, h History, q Query) Result {
	t.Helper()
	r, err := h.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// testHistory is what every kind of history does.
func testHistory(t *testing.T, h whole) {
	t.Run("raw", func(t *testing.T) { testRaw(t, h) })
	t.Run("steps", func(t *testing.T) { testSteps(t, h) })
	t.Run("limit", func(t *testing.T) { testLimit(t, h) })
	t.Run("aggregates", func(t *testing.T) { testAggregates(t, h) })
	t.Run("of one project", func(t *testing.T) { testOfProject(t, h) })
	t.Run("labels", func(t *testing.T) { testLabels(t, h) })
	t.Run("values", func(t *testing.T) { testValues(t, h) })
	t.Run("model changed", func(t *testing.T) { testModels(t, h) })
	t.Run("repeated", func(t *testing.T) { testRepeated(t, h) })
	t.Run("wrong queries", func(t *testing.T) { testWrongQueries(t, h) })
	t.Run("node metrics", func(t *testing.T) { testNodeMetrics(t, h) })
	t.Run("handler reads", func(t *testing.T) { testHandlerReads(t, h) })
	t.Run("handler does not write", func(t *testing.T) { testHandlerRefuses(t, h) })
}

func testRaw(t *testing.T, h whole) {
	at := base()
	var samples []storage.Sample
	var want []Point
	for i := range 100 {
		ms := at.Add(time.Duration(i) * 1234 * time.Millisecond).UnixMilli()
		samples = append(samples, storage.Sample{Property: "power", Time: ms, Value: float64(i) / 8})
		want = append(want, Point{ms, float64(i) / 8})
	}
	insert(t, h, one("default", "raw", "m", samples...))
	q := Query{Project: "default", Twin: "raw", Property: "power", Start: at, End: at.Add(time.Hour)}
	if r := query(t, h, q); !slices.Equal(r.Points, want) || r.Truncated {
		t.Errorf("got %d points (truncated %v) %v, want %v", len(r.Points), r.Truncated, r.Points, want)
	}
	// Both ends are included, to the millisecond.
	q.Start, q.End = time.UnixMilli(want[10].Time), time.UnixMilli(want[20].Time)
	if r := query(t, h, q); !slices.Equal(r.Points, want[10:21]) {
		t.Errorf("part: got %v, want %v", r.Points, want[10:21])
	}
	q.Start, q.End = time.UnixMilli(want[10].Time+1), time.UnixMilli(want[20].Time-1)
	if r := query(t, h, q); !slices.Equal(r.Points, want[11:20]) {
		t.Errorf("inner part: got %v, want %v", r.Points, want[11:20])
	}
	q.Property = "absent"
	if r := query(t, h, q); len(r.Points) != 0 || r.Truncated {
		t.Errorf("absent property: got %v", r)
	}
}

func testSteps(t *testing.T, h whole) {
	at := base()
	var samples []storage.Sample
	for i := range 60 { // one a second, from at+1s to at+60s
		samples = append(samples, storage.Sample{Property: "temp", Time: at.Add(time.Duration(i+1) * time.Second).UnixMilli(), Value: float64(i)})
	}
	insert(t, h, one("default", "steps", "m", samples...))
	q := Query{Project: "default", Twin: "steps", Property: "temp", Start: at.Add(10 * time.Second), End: at.Add(90 * time.Second), Step: 10 * time.Second}
	// Ends at +90 … +10; samples up to +60.
	for aggregate, of := range map[string]func(first int) float64{
		"":      func(n int) float64 { return float64(n) + 4.5 },
		"avg":   func(n int) float64 { return float64(n) + 4.5 },
		"min":   func(n int) float64 { return float64(n) },
		"max":   func(n int) float64 { return float64(n + 9) },
		"last":  func(n int) float64 { return float64(n + 9) },
		"sum":   func(n int) float64 { return float64(10*n + 45) },
		"count": func(int) float64 { return 10 },
	} {
		var want []Point
		for k := range 6 {
			want = append(want, Point{at.Add(time.Duration(k+1) * 10 * time.Second).UnixMilli(), of(10 * k)})
		}
		q.Aggregate = aggregate
		if r := query(t, h, q); !slices.Equal(r.Points, want) || r.Truncated {
			t.Errorf("%q: got %v, want %v", aggregate, r, want)
		}
	}
	q.Aggregate, q.Limit = "max", 5 // of the 9 steps +10 … +90: +50 and +60 have samples
	want := []Point{{at.Add(50 * time.Second).UnixMilli(), 49}, {at.Add(60 * time.Second).UnixMilli(), 59}}
	if r := query(t, h, q); !slices.Equal(r.Points, want) || !r.Truncated {
		t.Errorf("limit: got %v, want %v, truncated", r, want)
	}
	// A step that is no whole second, from an end that is none.
	q = Query{Project: "default", Twin: "steps", Property: "temp", Start: at, End: at.Add(7 * time.Second).Add(250 * time.Millisecond), Step: 1750 * time.Millisecond, Aggregate: "last"}
	end := q.End.UnixMilli()
	want = []Point{{end - 5250, 1}, {end - 3500, 2}, {end - 1750, 4}, {end, 6}}
	if r := query(t, h, q); !slices.Equal(r.Points, want) {
		t.Errorf("odd step: got %v, want %v", r.Points, want)
	}
	// More steps than are asked of the server at once.
	q = Query{Project: "default", Twin: "steps", Property: "temp", Start: at.Add(-4 * time.Hour), End: at.Add(time.Minute), Step: time.Second, Aggregate: "count", Limit: MaxLimit}
	if r := query(t, h, q); len(r.Points) != 60 || r.Points[0].Time != samples[0].Time || r.Points[59].Time != samples[59].Time {
		t.Errorf("many steps: got %d points %v", len(r.Points), r.Points)
	}
}

func testLimit(t *testing.T, h whole) {
	// Spread over days, so that several windows are asked for.
	at := base().Add(-40 * 24 * time.Hour)
	var samples []storage.Sample
	var want []Point
	for i := range 900 {
		ms := at.Add(time.Duration(i) * time.Hour).UnixMilli()
		samples = append(samples, storage.Sample{Property: "p", Time: ms, Value: float64(i)})
		want = append(want, Point{ms, float64(i)})
	}
	insert(t, h, one("default", "limit", "m", samples...))
	q := Query{Project: "default", Twin: "limit", Property: "p", Start: at, End: time.Now()}
	for _, limit := range []int{1, 2, 10, 899, 900, 0} {
		q.Limit = limit
		part := want
		if limit > 0 {
			part = want[len(want)-limit:]
		}
		if r := query(t, h, q); !slices.Equal(r.Points, part) || r.Truncated != (limit > 0 && limit < 900) {
			t.Errorf("limit %d: got %d points, truncated %v", limit, len(r.Points), r.Truncated)
		}
	}
	// A range of years in steps of a minute, the samples in its newest hour: nothing is left out, though not all steps are looked at.
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(-48 * time.Hour)
	insert(t, h, one("default", "few", "m", storage.Sample{Property: "p", Time: day.UnixMilli(), Value: 1}))
	few := Query{Project: "default", Twin: "few", Property: "p", Start: day.AddDate(-1, 0, 0), End: day.Add(time.Minute), Step: time.Minute, Limit: 1000}
	if r := query(t, h, few); len(r.Points) != 1 || r.Truncated {
		t.Errorf("got %v, truncated %v", r.Points, r.Truncated)
	}
	few.Limit, few.End = 10, day.Add(time.Hour)
	if r := query(t, h, few); len(r.Points) != 0 || !r.Truncated {
		t.Errorf("got %v, truncated %v; want nothing in the newest 10 minutes, and word of what is before", r.Points, r.Truncated)
	}
}

func testLabels(t *testing.T, h whole) {
	at := base()
	names := []string{`quo"te`, `back\slash`, "new\nline", `"} or {`, `a.b-c_1`, `.*`, `größe €`, `{{`, `'`, "`", `\n`, `tab	x`}
	var all []storage.TwinSamples
	for i, name := range names {
		all = append(all, one(name, name, name, storage.Sample{Property: name, Time: at.UnixMilli(), Value: float64(i + 1)})...)
	}
	insert(t, h, all)
	for i, name := range names {
		q := Query{Project: name, Twin: name, Property: name, Start: at, End: at}
		if r := query(t, h, q); !slices.Equal(r.Points, []Point{{at.UnixMilli(), float64(i + 1)}}) {
			t.Errorf("%q raw: got %v", name, r.Points)
		}
		q.Step = time.Minute
		if r := query(t, h, q); !slices.Equal(r.Points, []Point{{at.UnixMilli(), float64(i + 1)}}) {
			t.Errorf("%q step: got %v", name, r.Points)
		}
	}
}

func testValues(t *testing.T, h whole) {
	at := base()
	ms := at.UnixMilli()
	insert(t, h, []storage.TwinSamples{
		{Project: "default", Twin: "values", Samples: []storage.Sample{
			{Property: "v", Time: ms, Value: math.NaN()},
			{Property: "v", Time: ms + 1, Value: math.Inf(1)},
			{Property: "v", Time: ms + 2, Value: math.Inf(-1)},
			{Property: "v", Time: ms + 3, Value: 0},
			{Property: "v", Time: ms + 4, Value: 1},
			{Property: "v", Time: time.Now().Add(-20 * 365 * 24 * time.Hour).UnixMilli(), Value: 1},
			{Property: "v", Time: time.Now().Add(72 * time.Hour).UnixMilli(), Value: 1},
			{Property: "", Time: ms, Value: 1},
			{Property: strings.Repeat("x", 70_000), Time: ms, Value: 1},
			{Property: "v", Time: ms + 5, Value: 0.1},
		}},
		{Project: "default", Twin: "", Samples: []storage.Sample{{Property: "v", Time: ms, Value: 1}}},
		{Project: "default", Twin: "values2", Samples: []storage.Sample{{Property: "v", Time: ms, Value: -7.25}}},
	})
	want := []Point{{ms + 1, math.Inf(1)}, {ms + 2, math.Inf(-1)}, {ms + 3, 0}, {ms + 4, 1}, {ms + 5, 0.1}}
	q := Query{Project: "default", Twin: "values", Property: "v", Start: at, End: at.Add(time.Second)}
	eventually(t, 15*time.Second, "all values show", func() bool { return len(query(t, h, q).Points) >= len(want) })
	if r := query(t, h, q); !slices.Equal(r.Points, want) {
		t.Errorf("got %v, want %v", r.Points, want)
	}
}

func testModels(t *testing.T, h whole) {
	at := base()
	var all []storage.TwinSamples
	for i := range 20 {
		model := "old"
		if i >= 7 {
			model = "new"
		}
		all = append(all, one("default", "models", model, storage.Sample{Property: "p", Time: at.Add(time.Duration(i+1) * time.Second).UnixMilli(), Value: float64(i)})...)
	}
	insert(t, h, all)
	q := Query{Project: "default", Twin: "models", Property: "p", Start: at, End: at.Add(20 * time.Second)}
	eventually(t, 15*time.Second, "all models show", func() bool { return len(query(t, h, q).Points) == 20 })
	for i, p := range query(t, h, q).Points {
		if p != (Point{at.Add(time.Duration(i+1) * time.Second).UnixMilli(), float64(i)}) {
			t.Errorf("point %d is %v", i, p)
		}
	}
	q.Step = 10 * time.Second
	for aggregate, want := range map[string][2]float64{"avg": {4.5, 14.5}, "sum": {45, 145}, "count": {10, 10}, "min": {0, 10}, "max": {9, 19}, "last": {9, 19}} {
		q.Aggregate = aggregate
		p := query(t, h, q).Points
		if len(p) > 0 && p[0].Time == at.UnixMilli() {
			p = p[1:] // the step that ends at Start
		}
		if len(p) != 2 || p[0].Value != want[0] || p[1].Value != want[1] {
			t.Errorf("%s: got %v, want %v", aggregate, p, want)
		}
	}
	// One step has samples of both models, or none of the new one at its beginning; each aggregate is of all of them.
	for _, c := range []struct {
		end, step int
		want      map[string]float64
	}{
		{20, 20, map[string]float64{"first": 0, "last": 19, "dev": math.Sqrt(33.25), "p0": 0, "p50": 9.5, "p100": 19, "delta": 19, "avg": 9.5}},
		{10, 10, map[string]float64{"first": 0, "last": 9, "dev": math.Sqrt(8.25), "p50": 4.5, "p90": 8.1, "rate": 0.9}},
		{20, 10, map[string]float64{"first": 10, "last": 19, "p50": 14.5, "delta": 10}},
	} {
		for aggregate, want := range c.want {
			end := at.Add(time.Duration(c.end) * time.Second)
			q := Query{Project: "default", Twin: "models", Property: "p", Start: end, End: end, Step: time.Duration(c.step) * time.Second, Aggregate: aggregate}
			if p := query(t, h, q).Points; len(p) != 1 || math.Abs(p[0].Value-want) > 1e-9 {
				t.Errorf("%s of the %d s up to %d: got %v, want %v", aggregate, c.step, c.end, p, want)
			}
		}
	}
}

func testRepeated(t *testing.T, h whole) {
	at := base()
	samples := one("default", "repeated", "m")
	for i := range 50 {
		samples[0].Samples = append(samples[0].Samples, storage.Sample{Property: "p", Time: at.UnixMilli() + int64(i), Value: float64(i)})
	}
	for range 3 {
		insert(t, h, samples)
	}
	q := Query{Project: "default", Twin: "repeated", Property: "p", Start: at, End: at.Add(time.Second)}
	if r := query(t, h, q); len(r.Points) != 50 {
		t.Errorf("got %d points of 50 inserted three times", len(r.Points))
	}
	q.End, q.Step, q.Aggregate = at.Add(time.Second), 2*time.Second, "count"
	if r := query(t, h, q); len(r.Points) != 1 || r.Points[0].Value != 50 {
		t.Errorf("count is %v", r.Points)
	}
}

func testWrongQueries(t *testing.T, h whole) {
	now := time.Now()
	good := Query{Project: "p", Twin: "t", Property: "x", Start: now.Add(-time.Hour), End: now}
	for field, change := range map[string]func(q *Query){
		"project":   func(q *Query) { q.Project = "" },
		"twin":      func(q *Query) { q.Twin = "" },
		"property":  func(q *Query) { q.Property = "" },
		"start":     func(q *Query) { q.Start = time.Time{} },
		"end":       func(q *Query) { q.End = q.Start.Add(-1) },
		"limit":     func(q *Query) { q.Limit = MaxLimit + 1 },
		"step":      func(q *Query) { q.Step = time.Microsecond },
		"aggregate": func(q *Query) { q.Step, q.Aggregate = time.Second, "median" },
		"without":   func(q *Query) { q.Aggregate = "avg" },
	} {
		q := good
		change(&q)
		if _, err := h.Query(t.Context(), q); !errors.Is(err, ErrQuery) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Query(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func testNodeMetrics(t *testing.T, h whole) {
	set := metrics.NewSet()
	calls := set.NewCounter(`test_calls_total{path="/a\"b",node="forged"}`)
	calls.Add(41)
	p := Push(h, PushOptions{Node: "n-1", Interval: 50 * time.Millisecond, Gather: GatherNode(set), Logger: testLogger(t)})
	defer p.Close()
	calls.Inc()
	srv := httptest.NewServer(h.Handler())
	defer srv.Close()
	for _, expr := range []string{`last_over_time(test_calls_total{path="/a\"b",node="n-1"}[1m]) == 42`, `go_goroutines{node="n-1"} > 0`} {
		eventually(t, 15*time.Second, expr, func() bool { return len(instant(t, srv.URL, expr)) == 1 })
	}
}

// instant asks the Prometheus API for the series of an expression.
func instant(t *testing.T, server, expr string) []json.RawMessage {
	t.Helper()
	resp, err := http.Get(server + Prefix + "api/v1/query?nocache=1&latency_offset=1ms&query=" + url.QueryEscape(expr))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Status string
		Data   struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: status %d, %v, %v", expr, resp.StatusCode, answer, err)
	}
	return answer.Data.Result
}

func testHandlerReads(t *testing.T, h whole) {
	at := base()
	insert(t, h, one("default", "read", "m", storage.Sample{Property: "p", Time: at.UnixMilli(), Value: 3}))
	srv := httptest.NewServer(h.Handler())
	defer srv.Close()
	get := func(method, path, body string) string {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s %s: status %d: %s %v", method, path, resp.StatusCode, text, err)
		}
		if v := resp.Header.Get("Access-Control-Allow-Origin"); v != "" {
			t.Errorf("%s: open to scripts of %q", path, v)
		}
		return string(text)
	}
	span := fmt.Sprintf("start=%d&end=%d", at.Unix()-60, at.Unix()+60)
	sel := url.QueryEscape(`pollux_property{twin="read"}`)
	for path, want := range map[string]string{
		"/victoria/api/v1/query?query=" + sel + fmt.Sprintf("&time=%d", at.Unix()):  `"3"`,
		"/victoria/api/v1/query_range?step=60&query=" + sel + "&" + span:            `"3"`,
		"/victoria/prometheus/api/v1/query_range?step=60&query=" + sel + "&" + span: `"3"`,
		"/victoria/api/v1/series?match[]=" + sel + "&" + span:                       `"property":"p"`,
		"/victoria/api/v1/labels?" + span:                                           `"property"`,
		"/victoria/api/v1/label/twin/values?" + span:                                `"read"`,
		"/victoria/api/v1/status/buildinfo":                                         `success`,
		"/victoria/api/v1/metadata":                                                 `success`,
	} {
		if got := get(http.MethodGet, path, ""); !strings.Contains(got, want) {
			t.Errorf("%s: %q is not in %.300s", path, want, got)
		}
	}
	if _, ok := h.(*Embedded); ok { // Debian's server is built without vmui
		for _, path := range []string{"/victoria/vmui/", "/victoria/vmui", "/victoria/", "/victoria"} {
			if got := get(http.MethodGet, path, ""); !strings.Contains(got, "<html") {
				t.Errorf("%s: %.300s", path, got)
			}
		}
	}
	if _, ok := h.(*Embedded); ok {
		page := get(http.MethodGet, "/victoria/vmui/", "")
		script := regexp.MustCompile(`src="\./(assets/[^"]+)"`).FindStringSubmatch(page)
		if script == nil || len(get(http.MethodGet, "/victoria/vmui/"+script[1], "")) < 1000 {
			t.Errorf("vmui has no script: %s", page)
		}
		if got := get(http.MethodGet, "/victoria/vmui/config.json", ""); !strings.HasPrefix(got, "{") {
			t.Errorf("config of vmui: %s", got)
		}
	}
	if got := get(http.MethodPost, "/victoria/api/v1/query_range", "step=60&query="+sel+"&"+span); !strings.Contains(got, `"3"`) {
		t.Errorf("post: %s", got)
	}
}

func testHandlerRefuses(t *testing.T, h whole) {
	srv := httptest.NewServer(h.Handler())
	defer srv.Close()
	for _, path := range []string{
		"api/v1/write", "api/v1/push", "api/v1/import", "api/v1/import/prometheus", "api/v1/import/csv", "api/v1/import/native",
		"prometheus/api/v1/write", "prometheus/prometheus/api/v1/query", "write", "api/v2/write", "influx/write", "api/put", "datadog/api/v1/series",
		"api/v1/admin/tsdb/delete_series", "prometheus/api/v1/admin/tsdb/delete_series", "api/v1/admin/tsdb/snapshot",
		"snapshot/create", "snapshot/list", "snapshot/delete_all", "internal/force_merge", "internal/force_flush",
		"internal/resetRollupResultCache", "tags/delSeries", "tags/tagSeries", "flags", "metrics", "config", "-/reload", "debug/pprof/heap",
		"api/v1/query/../write", "vmui/../api/v1/write", "vmui/../../api/v1/admin/tsdb/delete_series", "//api/v1//write", "api/v1/label//values", "api/v1/label/a/b/values",
		"targets", "service-discovery", "metric-relabel-debug", "",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			req := httptest.NewRequest(method, Prefix, strings.NewReader("a{b=\"c\"} 1\n"))
			req.URL.Path = Prefix + path
			w := httptest.NewRecorder()
			h.Handler().ServeHTTP(w, req)
			if w.Code != http.StatusNotFound && (path != "" || w.Code != http.StatusFound) {
				t.Errorf("%s %s: status %d: %.200s", method, path, w.Code, w.Body)
			}
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, httptest.NewRequest(method, Prefix+"api/v1/query", nil))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", method, w.Code)
		}
	}
	big := httptest.NewRequest(http.MethodPost, Prefix+"api/v1/query", strings.NewReader("query="+strings.Repeat("x", 4<<20)))
	big.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, big)
	if w.Code < 400 {
		t.Errorf("4 MB of query: status %d", w.Code)
	}
}
