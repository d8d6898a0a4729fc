package rpc_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/test/harness"
)

// foreignAsk is a request by plain HTTP; at random where it has several.
type foreignAsk struct {
	method, path, kind, body string
	header                   map[string]string
}

// TestForeignByEveryDoor asks every door that is no procedure, as keys of one project, for what is another project's.
func TestForeignByEveryDoor(t *testing.T) {
	harness.Seeds(t, 1, func(t *testing.T, seed uint64) {
		f := openForeign(t, seed)
		before := f.awaitStill()
		if status, got := f.plain("viewer", foreignAsk{method: "GET", path: "/v1/prometheus/" + f.hall + "/api/v1/query?query=last_over_time(pollux_property[1h])"}); status != http.StatusOK || !bytes.Contains(got, []byte(f.hall)) {
			t.Fatalf("its own: %d %s", status, got)
		}
		for _, a := range slices.Concat(f.ingests(), f.plainPaths(), f.metricsPaths(), f.metricsQueries()) {
			who := pickOf(f.random, []string{"admin", "admin", "operator", "viewer"})
			status, got := f.plain(who, a)
			if s := f.tells(got); s != "" {
				t.Errorf("%s %s %s %s tells %s: %d %.600s", who, a.method, a.path, a.body, s, status, around(got, s))
			}
			if door := strings.SplitN(a.path, "/", 5); len(door) > 3 && strings.EqualFold(door[3], f.vault) && status != 0 && status < 300 {
				t.Errorf("%s %s %s %s: %d %.300s", who, a.method, a.path, a.body, status, got)
			}
		}
		f.untouched(before)
	})
}

// plain sends a request and reads what comes within a moment.
func (f *foreign) plain(who string, a foreignAsk) (int, []byte) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Second)
	defer cancel()
	if strings.Contains(a.path, "/events") {
		ctx, cancel = context.WithTimeout(f.t.Context(), 100*time.Millisecond)
		defer cancel()
	}
	r, err := http.NewRequestWithContext(ctx, a.method, f.url+a.path, strings.NewReader(a.body))
	if err != nil {
		f.t.Fatalf("%q: %v", a.path, err)
	}
	if a.kind != "" {
		r.Header.Set("Content-Type", a.kind)
	}
	for name, v := range a.header {
		r.Header.Set(name, v)
	}
	res, err := f.http(f.keys[who]).Do(r)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if bytes.HasPrefix(got, []byte("PAR1")) {
		got = parquetText(f.t, got)
	}
	return res.StatusCode, fmt.Append(got, res.Header)
}

// parquetText is what stands in a file.
func parquetText(t *testing.T, file []byte) []byte {
	t.Helper()
	open, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	r := parquet.NewReader(open)
	defer r.Close()
	var out []byte
	for rows := make([]parquet.Row, 64); ; {
		n, err := r.ReadRows(rows)
		out = fmt.Append(out, rows[:n])
		if err != nil {
			return out
		}
	}
}

// ingests are messages for the vault, in each spelling.
func (f *foreign) ingests() (all []foreignAsk) {
	h, v := f.hall, f.vault
	post := func(path, body string) {
		all = append(all, foreignAsk{method: "POST", path: path, kind: "application/json", body: body})
	}
	data := `{"level":1}`
	for _, p := range []string{v, strings.ToUpper(v), h + "/../" + v, h + "%2F..%2F" + v, v + "%2F", "/" + v, "." + "/" + v, "%2e/" + v, "%2e%2e/ingest/" + v, v + "%00", "%20" + v, "*", "", v + ";x", v + "//"} {
		for _, rest := range []string{"/pump", "/plant/serial/7", "/plant/serial/new", "", "/write", "/pubsub", "/pump/"} {
			post("/v1/ingest/"+p+rest, data)
		}
	}
	for _, twin := range []string{v + "%2Fpump", "..%2F" + v + "%2Fpump", "%2e%2e%2F" + v + "%2Fpump", "../" + v + "/pump", h + "%2F" + v + "%2Fpump"} {
		post("/v1/ingest/"+h+"/"+twin, data)
		post("/v1/ingest/"+h+"/plant/serial/"+twin, data)
		post("/v1/ingest/"+h+"/"+twin+"/serial/7", data)
	}
	for _, name := range []string{v + "/pump", "/" + v + "/pump", "../" + v + "/pump", v + "/nope", h + "/../" + v + "/pump", strings.ToUpper(v) + "/pump"} {
		post("/v1/ingest/"+h, fmt.Sprintf(`{"twin":%q,"data":%s}`, name, data))
		post("/v1/ingest/"+h, fmt.Sprintf(`[{"twin":"pump","project":%q,"data":%s}]`, v, data))
		post("/v1/ingest/"+h+"?project="+v, fmt.Sprintf(`{"twin":%q,"data":%s}`, name, data))
		post("/v1/ingest/"+h+"/pubsub", fmt.Sprintf(`{"message":{"data":"eyJsZXZlbCI6MX0=","attributes":{"twin":%q,"project":%q},"messageId":"1"}}`, name, v))
		all = append(all, foreignAsk{method: "POST", path: "/v1/ingest/" + h + "/write?db=" + v + "&bucket=" + v, body: "level,twin=" + name + ",project=" + v + " level=1"},
			foreignAsk{method: "POST", path: "/v1/ingest/" + h + "/write", body: name + " level=1"})
	}
	return all
}

// plainPaths are REST, exports, webhooks and what else there is.
func (f *foreign) plainPaths() (all []foreignAsk) {
	h, v := f.hall, f.vault
	get := func(paths ...string) {
		for _, p := range paths {
			all = append(all, foreignAsk{method: "GET", path: p})
		}
	}
	for _, id := range []string{v + "/pump", strings.ToUpper(v) + "/pump", v + "%2Fpump", h + "/..%2F" + v + "%2Fpump", h + "/../" + v + "/pump", h + "/%2e%2e/" + v + "/pump", "/" + v + "/pump", "./" + v + "/pump", h + "/" + v + "%2Fpump"} {
		get("/v1/twins/"+id, "/v1/twins/"+id+"/properties", "/v1/twins/"+id+"/properties/text", "/v1/twins/"+id+"/events", "/v1/twins/"+id+"/events/rang", "/v1/twins/"+id+"/history?property=level",
			"/v1/walk/"+id, "/v1/walk/"+id+"/pump", "/v1/walk/"+h+"/pump/../../"+id, "/hooks/"+id, "/hooks/"+id+"?token=x", "/v1/history/"+id+"/export")
		all = append(all, foreignAsk{method: "PUT", path: "/v1/twins/" + id + "/properties/level", kind: "application/json", body: "1"},
			foreignAsk{method: "POST", path: "/v1/twins/" + id + "/actions/say", kind: "application/json", body: `{"text":"x"}`},
			foreignAsk{method: "POST", path: "/hooks/" + id, body: "{}"}, foreignAsk{method: "POST", path: "/hooks/rules/" + v + "/hook", body: "{}", header: map[string]string{"X-Token": "x"}},
			foreignAsk{method: "POST", path: "/hooks/rules/" + v + "/hook?token=plain-hook-secret", body: "{}"})
	}
	for _, p := range []string{v, strings.ToUpper(v), h + "%2F..%2F" + v, h + "/../" + v, "%2e%2e/history/" + v, "*", h, h + "%22%20or%20project%3D%22" + v, h + `",project="` + v} {
		for _, query := range []string{"format=csv", "format=json", "format=parquet", "what=journal&format=json", "what=journal&format=parquet", "what=journal&kind=value&format=csv",
			"twin=" + v + "%2Fpump", "format=json&twin=..%2F" + v + "%2Fpump", "format=json&property=level%22%20or%20project%3D%22" + v, "format=json&twin=pump%22%7D%20or%20%7Bproject%3D%22" + v, "project=" + v} {
			get("/v1/history/" + strings.ReplaceAll(p, `"`, "%22") + "/export?start=-48h&" + query)
		}
	}
	for _, query := range []string{"q=quok", "q=quok&project=" + v, "q=&facets=true", "q=quok&kind=event", "facet=project:" + v, "zone=" + v + "/pump", "near=52.5,13.4,1000&facets=true", "where=entry.project!%3D%27x%27"} {
		get("/v1/search?" + query)
	}
	everybody := `{"id":"x","name":"x","role":"admin"}` // what another node would say
	for _, said := range []string{everybody, base64.StdEncoding.EncodeToString([]byte(everybody)), base64.RawURLEncoding.EncodeToString([]byte(everybody))} {
		for _, of := range []string{v, ""} {
			all = append(all, foreignAsk{method: "POST", path: "/pollux.v1.TwinService/ListTwins", kind: "application/json", body: `{"filter":{"project":"` + of + `"}}`,
				header: map[string]string{rpc.HeaderPrincipal: said, rpc.HeaderLocal: "1", "X-Original-URL": "/victoria/api/v1/labels", "X-HTTP-Method-Override": "DELETE"}})
		}
	}
	for _, token := range f.tokens {
		get("/v1/twins?page_token="+url.QueryEscape(token), "/v1/search?q=quok&page_token="+url.QueryEscape(token))
	}
	get("/v1/twins", "/v1/twins?project="+v, "/v1/twins?project=*", "/v1/twins?zone="+v+"/pump", "/v1/twins?label=common%3Dyes", "/v1/twins?text=quok", "/v1/twins?where="+url.QueryEscape("twin.project == '"+v+"'"),
		"/openapi.json", "/metrics", "/healthz", "/readyz", "/", "/console/", "/debug/pprof/", "/debug/vars", "/backup", "/v1/backup", "/v1/recordings/"+v+"/pump")
	return all
}

// metricsPaths are those of VictoriaMetrics, some of which tell or change all there is.
func (f *foreign) metricsPaths() (all []foreignAsk) {
	every := `match[]=` + url.QueryEscape(`{__name__!=""}`)
	for _, prefix := range []string{"/victoria", "/v1/prometheus/" + f.hall, "/v1/prometheus/" + f.vault, "/v1/prometheus/" + f.hall + "/../" + f.vault, "/v1/prometheus/" + f.hall + "%2F..%2F" + f.vault, "/v1/prometheus//" + f.vault,
		"/v1/prometheus/%2e/" + f.vault, "/v1/prometheus/" + f.hall + "/%2e%2e/" + f.vault, "/v1/prometheus/" + strings.ToUpper(f.vault), "/v1/prometheus/" + f.hall + "/prometheus", "/v1/prometheus/" + f.hall + "/../../../victoria",
		"/v1/prometheus/" + f.hall + "/%2e%2e%2f%2e%2e%2f%2e%2e%2fvictoria", "/victoria/.", "//victoria", "/v1/prometheus/" + f.hall + "//"} {
		for _, path := range []string{"/api/v1/series?" + every, "/api/v1/labels", "/api/v1/label/project/values", "/api/v1/label/__name__/values", "/api/v1/label/twin/values", "/api/v1/label/model/values", "/api/v1/label/%2e%2e/values",
			"/api/v1/export?" + every, "/api/v1/export/csv?format=__name__,project&" + every, "/api/v1/export/native?" + every, "/federate?" + every, "/api/v1/status/tsdb", "/api/v1/status/tsdb?topN=100&focusLabel=project",
			"/api/v1/status/active_queries", "/api/v1/status/top_queries", "/api/v1/status/metric_names_stats", "/api/v1/metadata", "/api/v1/admin/tsdb/delete_series?" + every, "/api/v1/admin/status/metric_names_stats/reset",
			"/api/v1/import?extra_label=project=" + f.vault, "/api/v1/write", "/api/v1/query?query=pollux_property", "/api/v1/query_exemplars?query=x", "/api/v1/rules", "/api/v1/alerts", "/metrics/find?query=*", "/metrics/index.json",
			"/render?target=*", "/tags", "/tags/project", "/tags/autoComplete/tags", "/graphite/metrics/find?query=*", "/vmui/", "/vmui/config.json", "/snapshot/create", "/internal/force_flush", "/-/reload", "/flags", "/metrics",
			"/debug/pprof/cmdline", "/api/v1/labels/../export?" + every, "/api/v1/./export?" + every, "/api/v1//export?" + every, "/api/v1/%65xport?" + every} {
			all = append(all, foreignAsk{method: "GET", path: prefix + path}, foreignAsk{method: "POST", path: prefix + path, kind: "application/x-www-form-urlencoded", body: "extra_filters[]=%7B%7D&" + every})
		}
	}
	return all
}

// metricsQueries are in MetricsQL, with filters of the client's own, in the address, in the body, or both.
func (f *foreign) metricsQueries() (all []foreignAsk) {
	queries := []string{`{__name__=~".+"}`, `{__name__!=""}`, `pollux_property`, `pollux_property{project="VAULT"}`, `pollux_property{project=~".*"}`, `pollux_property{project!="HALL"}`, `{project="HALL" or project="VAULT"}`,
		`{project="HALL" or __name__=~".+"}`, `{or project="VAULT"}`, `{"pollux_property",project="VAULT"}`, `WITH (f = {project="VAULT"}) pollux_property{f}`, `WITH (x(q) = q or {project="VAULT"}) x(pollux_property)`,
		`WITH (project = "VAULT") pollux_property{project=project}`, `count by (project) ({__name__!=""})`, `count(pollux_property) by (twin, project, model)`, `sum_over_time(pollux_property{project="VAULT"}[1h:1m])`,
		`max_over_time((pollux_property or {project="VAULT"})[1h:1m])`, `label_replace(pollux_property, "project", "VAULT", "project", ".*")`, `label_set(pollux_property, "project", "VAULT")`,
		`label_join(pollux_property, "x", ",", "project", "twin", "model")`, `union({project="VAULT"}, {project="HALL"})`, `absent(pollux_property{project="VAULT"})`, `absent_over_time(pollux_property{project="VAULT"}[1h])`,
		`pollux_property{project="VAULT"} @ end()`, `pollux_property{project="VAULT"} offset -1h`, `last_over_time({__name__=~".+"}[2d])`, `label_map(pollux_property, "project", "HALL", "VAULT")`, `alias(pollux_property{project="VAULT"}, "x")`,
		`label_value({__name__!=""}, "project")`, `topk(100, {__name__!=""})`, `rate({project=~"HALL.*"}[1h])`, `{project=~"HALL|VAULT"}`, `label_del(pollux_property, "project")`, `sort_by_label({__name__!=""}, "project")`,
		`pollux_property * on(property) group_right(project) pollux_property{project="VAULT"}`, `{__name__="pollux_property", project="HALL", project="VAULT"}`, `pollux_property{project=""}`, `count_values("value", {__name__!=""})`,
		`pollux_property ifnot pollux_property{project="HALL"}`, `pollux_property unless pollux_property{project="HALL"}`, `pollux_property default 1`, `histogram_quantile(0.5, {__name__!=""})`, `vm_rows`, `outliersk(9, {__name__!=""})`,
		`pollux_property{project="HALL\"} or {project=\"VAULT"}`, "pollux_property{project=`VAULT`}", `pollux_property{'project'="VAULT"}`, `pollux_property # }`, `pollux_property{project="VAULT" or project="HALL"}[1h]`}
	extra := []url.Values{{}, {"extra_label": {"project=VAULT"}}, {"extra_filters": {`{project="VAULT"}`}}, {"extra_filters[]": {`{project="VAULT"}`}}, {"extra_filters[]": {`{project="HALL"}`, `{}`, `{__name__!=""}`}}, {"extra_label[]": {"project=VAULT"}},
		{"Extra_Filters[]": {`{project="VAULT"}`}}, {"extra_filters[0]": {`{project="VAULT"}`}}, {"nocache": {"1"}, "trace": {"1"}}, {"extra_filters[] ": {`{}`}}, {"reduce_mem_usage": {"1"}}, {"denyPartialResponse": {"1"}}}
	words := strings.NewReplacer("VAULT", f.vault, "HALL", f.hall)
	for _, query := range queries {
		for _, path := range []string{"query", "query_range", "series", "export", "labels", "label/project/values", "label/twin/values"} {
			args := url.Values{"start": {fmt.Sprint(time.Now().Add(-48 * time.Hour).Unix())}}
			name := "match[]"
			if strings.HasPrefix(path, "query") {
				name, args = "query", url.Values{}
			}
			if path == "query_range" {
				args = url.Values{"start": {"-1h"}, "step": {"1m"}}
			}
			args.Add(name, words.Replace(query))
			if f.random.IntN(4) == 0 {
				args.Add(name, words.Replace(pickOf(f.random, queries)))
			}
			more := url.Values{}
			for key, values := range pickOf(f.random, extra) {
				for _, v := range values {
					more.Add(key, words.Replace(v))
				}
			}
			base := "/v1/prometheus/" + f.hall + "/api/v1/" + path
			switch f.random.IntN(4) {
			case 0:
				all = append(all, foreignAsk{method: "GET", path: base + "?" + args.Encode() + "&" + more.Encode()})
			case 1:
				all = append(all, foreignAsk{method: "POST", path: base, kind: "application/x-www-form-urlencoded", body: args.Encode() + "&" + more.Encode()})
			case 2:
				all = append(all, foreignAsk{method: "POST", path: base + "?" + more.Encode(), kind: "application/x-www-form-urlencoded", body: args.Encode()})
			case 3:
				all = append(all, foreignAsk{method: "POST", path: base + "?" + args.Encode(), kind: "application/x-www-form-urlencoded", body: more.Encode()})
			}
		}
	}
	for _, values := range []string{"multipart/form-data; boundary=x", "text/plain", "application/json"} {
		all = append(all, foreignAsk{method: "POST", path: "/v1/prometheus/" + f.hall + "/api/v1/export?match[]=%7B__name__!%3D%22%22%7D", kind: values, body: "--x\r\nContent-Disposition: form-data; name=\"extra_filters[]\"\r\n\r\n{}\r\n--x--\r\n"})
	}
	return all
}
