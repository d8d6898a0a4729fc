package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// testAggregates compares each aggregate of a step with what it is by its definition.
func testAggregates(t *testing.T, h whole) {
	at := base().Add(-48 * time.Hour)
	var samples []storage.Sample
	steps := [][]float64{{4, 8, 6}, {}, {10, 2}, {5}}
	for i, values := range steps {
		for k, v := range values {
			samples = append(samples, storage.Sample{Property: "x", Time: at.Add(time.Duration(i)*time.Minute + time.Duration(k+1)*time.Second).UnixMilli(), Value: v})
		}
	}
	insert(t, h, one("agg", "a.b", "m", samples...))
	insert(t, h, one("agg", "axb", "m", storage.Sample{Property: "x", Time: at.Add(time.Second).UnixMilli(), Value: 77}))
	none := math.NaN()
	for name, want := range map[string][]float64{
		"avg": {6, none, 6, 5}, "min": {4, none, 2, 5}, "max": {8, none, 10, 5}, "sum": {18, none, 12, 5}, "count": {3, none, 2, 1},
		"dev": {math.Sqrt(8.0 / 3), none, 4, 0}, "first": {4, none, 10, 5}, "last": {6, none, 2, 5}, "p50": {6, none, 6, 5}, "p100": {8, none, 10, 5},
		"delta": {2, none, -4, 3}, "rate": {2. / 60, none, -4. / 60, 3. / 60},
	} {
		got, err := h.Series(t.Context(), SeriesQuery{Project: "agg", Property: "x", Twins: []string{"axb", "absent", "a.b"}, End: at.Add(4 * time.Minute),
			Step: time.Minute, Steps: 4, Aggregate: name})
		if err != nil || len(got) != 2 || got[0].Twin != "axb" || got[1].Twin != "a.b" {
			t.Errorf("%s: %v %v", name, got, err)
			continue
		}
		if !slices.EqualFunc(got[1].Values, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 || math.IsNaN(a) && math.IsNaN(b) }) {
			t.Errorf("%s: got %v, want %v", name, got[1].Values, want)
		}
		// The same by the query of one twin.
		r := query(t, h, Query{Project: "agg", Twin: "a.b", Property: "x", Start: at.Add(time.Minute), End: at.Add(4 * time.Minute), Step: time.Minute, Aggregate: name})
		if len(r.Points) != 3 || math.Abs(r.Points[1].Value-want[2]) > 1e-9 {
			t.Errorf("%s of one: got %v, want %v", name, r.Points, want)
		}
	}
	// What it changed from may be older than a step, but not than a day.
	insert(t, h, one("agg", "rare", "m", storage.Sample{Property: "x", Time: at.Add(-25 * time.Hour).UnixMilli(), Value: 1}, storage.Sample{Property: "x", Time: at.UnixMilli(), Value: 5},
		storage.Sample{Property: "x", Time: at.Add(23 * time.Hour).UnixMilli(), Value: 8}, storage.Sample{Property: "x", Time: at.Add(24 * time.Hour).UnixMilli(), Value: 10}))
	for _, c := range []struct{ end, want float64 }{{0, 0}, {23, 3}, {24, 2}} {
		end := at.Add(time.Duration(c.end) * time.Hour)
		r := query(t, h, Query{Project: "agg", Twin: "rare", Property: "x", Start: end, End: end.Add(time.Second), Step: time.Minute, Aggregate: "delta"})
		if len(r.Points) != 1 || r.Points[0].Value != c.want {
			t.Errorf("delta at %v h: got %v, want %v", c.end, r.Points, c.want)
		}
	}
	for _, name := range []string{"p101", "p", "median", "p-1", "pNaN"} {
		if _, err := h.Series(t.Context(), SeriesQuery{Project: "agg", Property: "x", End: at, Step: time.Minute, Steps: 1, Aggregate: name}); !errors.Is(err, ErrQuery) {
			t.Errorf("aggregate %s: %v", name, err)
		}
	}
}

// testOfProject tries to reach another project's samples.
func testOfProject(t *testing.T, h whole) {
	at := base().Add(time.Minute)
	insert(t, h, one("mine", "t1", "m", storage.Sample{Property: "secret", Time: at.UnixMilli(), Value: 11}))
	insert(t, h, one("theirs", "t2", "m", storage.Sample{Property: "secret", Time: at.UnixMilli(), Value: 4711}))
	srv := httptest.NewServer(OfProject(h, "mine"))
	defer srv.Close()
	get := func(path string, form url.Values, post bool) string {
		t.Helper()
		var res *http.Response
		var err error
		if post {
			res, err = http.PostForm(srv.URL+path, form)
		} else {
			res, err = http.Get(srv.URL + path + "?" + form.Encode())
		}
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(res.StatusCode, " ", string(text))
	}
	when := fmt.Sprint(at.Add(10 * time.Second).Unix())
	for _, expr := range []string{
		`pollux_property`, `{__name__=~".*"}`, `pollux_property{project="theirs"}`, `pollux_property{project="theirs" or project="mine"}`,
		`pollux_property{property="secret" or twin="t2"}`, `{project=~".+"} or {project!=""}`, `pollux_property{twin="t2"} or pollux_property`,
		`label_replace(pollux_property, "project", "mine", "project", "theirs")`, `label_set(pollux_property{project="theirs"}, "project", "mine")`,
		`union(pollux_property{project="theirs"}, pollux_property)`, `sum(pollux_property) by (project)`, `max_over_time(pollux_property[1h:1m])`,
		`WITH (x = pollux_property{project="theirs"}) x or pollux_property`, `count({__name__!=""}) by (project)`, `alias(pollux_property{project=~"t.*"}, "x")`,
	} {
		for _, extra := range []url.Values{nil, {"extra_label": {"project=theirs"}}, {"extra_filters[]": {`{project="theirs"}`}}, {"extra_filters": {`{project=~".*"}`}}} {
			form := url.Values{"query": {expr}, "time": {when}}
			for k, v := range extra {
				form[k] = v
			}
			for _, post := range []bool{false, true} {
				if got := get("/api/v1/query", form, post); strings.HasPrefix(got, "200") && (strings.Contains(got, "4711") || strings.Contains(got, "t2") || strings.Contains(got, "theirs\":") ||
					strings.Contains(got, `"project":"theirs"`)) {
					t.Errorf("%s with %v (post %v) reached the other project: %s", expr, extra, post, got)
				}
			}
		}
	}
	if got := get("/api/v1/query", url.Values{"query": {`sum(pollux_property{property="secret"})`}, "time": {when}}, false); !strings.Contains(got, `"11"`) {
		t.Errorf("its own: %s", got)
	}
	for path, form := range map[string]url.Values{"/api/v1/series": {"match[]": {"{__name__!=''}"}, "start": {"0"}}, "/api/v1/labels": {"start": {"0"}}, "/api/v1/label/twin/values": {"start": {"0"}},
		"/api/v1/label/project/values": {"start": {"0"}}, "/api/v1/export": {"match[]": {`pollux_property{project="theirs"}`, "{__name__!=''}"}, "start": {"0"}}} {
		got := get(path, form, false)
		if !strings.HasPrefix(got, "200") || strings.Contains(got, "theirs") || strings.Contains(got, "t2") || strings.Contains(got, "4711") {
			t.Errorf("%s reached the other project: %s", path, got)
		}
	}
	for _, path := range []string{"/api/v1/write", "/api/v1/admin/tsdb/delete_series", "/api/v1/status/tsdb", "/federate", "/vmui/", "/api/v1/export/native", "/metrics", "/"} {
		if got := get(path, nil, false); !strings.HasPrefix(got, "404") {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestMatrixReader(t *testing.T) {
	text := `{"status":"success","isPartial":false,"data":{"resultType":"matrix","result":[{"metric":{"__name__":"a","twin":"x\"]}{,\\"},"values":[[1.5,"2"],[2,"NaN"],[3.25,"+Inf"]]},{"metric":{},"values":[]}]},"stats":{"a":[1]}}`
	var got []string
	err := newMatrixReader(strings.NewReader(text), 0).read(func(metric []byte, values func(func(int64, float64)) error) error {
		var m map[string]string
		if err := json.Unmarshal(metric, &m); err != nil {
			return err
		}
		got = append(got, m["twin"])
		return values(func(at int64, v float64) { got = append(got, fmt.Sprint(at, " ", v)) })
	})
	if want := []string{`x"]}{,\`, "1500 2", "2000 NaN", "3250 +Inf", ""}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	for cut := range text {
		if cut < len(text)-len(`,"stats":{"a":[1]}}`)-2 {
			if err := newMatrixReader(strings.NewReader(text[:cut]), 0).read(func(_ []byte, values func(func(int64, float64)) error) error {
				return values(func(int64, float64) {})
			}); err == nil {
				t.Errorf("cut at %d is whole", cut)
			}
		}
	}
}
