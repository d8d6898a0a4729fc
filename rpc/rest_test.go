package rpc_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// restAnswer is what a client of the REST API gets.
type restAnswer struct {
	status int
	header http.Header
	text   string
}

// problem is the members of a problem that tests look at.
type problem struct {
	Title, Detail, Instance, Code, Reason, Path, Hint, Outcome string
	Status                                                     int
}

func (a *restAnswer) problem(t *testing.T) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		t.Fatalf("no problem: %v: %s", err, a.text)
	}
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" || p.Status != a.status || p.Title == "" || p.Code == "" {
		t.Errorf("%s %+v, status %d", kind, p, a.status)
	}
	return p
}

func (a *restAnswer) decode(t *testing.T, v any) {
	t.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/json" {
		t.Fatalf("Content-Type %q, status %d: %s", kind, a.status, a.text)
	}
	if err := json.Unmarshal([]byte(a.text), v); err != nil {
		t.Fatalf("%v: %s", err, a.text)
	}
}

// rest makes a request with a body of JSON, where there is one; headers are NAME: VALUE.
func (h *house) rest(t *testing.T, key, method, path, body string, headers ...string) *restAnswer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	res, err := h.http(key).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &restAnswer{res.StatusCode, res.Header, strings.TrimSpace(string(text))}
}

var echoOnce sync.Once

// another makes a twin of the echo driver, which is uploaded once: that takes a while with the race detector.
func (h *house) another(t *testing.T, id string) {
	t.Helper()
	uploaded := false
	echoOnce.Do(func() { h.echo(t, id); uploaded = true })
	if uploaded {
		return
	}
	_, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Driver: "echo",
		Settings: mustValue(t, map[string]any{"topic": strings.ReplaceAll(id, "/", "_")}).GetStructValue()}}))
	if err != nil {
		t.Fatalf("create twin: %v", err)
	}
}

func TestRestReadsAndUsesATwin(t *testing.T) {
	h, p := openHouse(t), fresh("rest")
	h.another(t, p+"/a")
	at := "/v1/twins/" + p + "/a"
	get := func(path string) *restAnswer { return h.rest(t, h.admin, "GET", path, "") }

	var set struct{ Progress, By string }
	a := h.rest(t, h.admin, "PUT", at+"/properties/level?wait=30s", "21.5")
	if a.decode(t, &set); a.status != 200 || set.Progress != "PROGRESS_CONFIRMED" {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if a = get(at + "/properties/level"); a.status != 200 || a.text != "21.5" /* no device is there */ || a.header.Get("Pollux-Quality") != "stale" {
		t.Errorf("%d %s %v", a.status, a.text, a.header)
	}
	if _, err := time.Parse(time.RFC3339Nano, a.header.Get("Pollux-Time")); err != nil {
		t.Error(err)
	}
	var detail struct {
		Value   float64
		Time    time.Time
		Quality string
		Desired struct{ Progress, By string }
	}
	if get(at+"/properties/level?detail=true").decode(t, &detail); detail.Value != 21.5 || detail.Desired.Progress != "PROGRESS_CONFIRMED" || detail.Time.IsZero() {
		t.Errorf("%+v", detail)
	}
	var values map[string]any
	if get(at+"/properties").decode(t, &values); values["level"] != 21.5 {
		t.Errorf("%v", values)
	}
	var twin struct {
		Id, Driver string
		State      struct {
			ModelJson  string
			Properties map[string]struct{ Value any }
		}
	}
	if get(at+"?model=true").decode(t, &twin); twin.Id != p+"/a" || twin.State.Properties["level"].Value != 21.5 || !strings.Contains(twin.State.ModelJson, "tm:ThingModel") {
		t.Errorf("%+v", twin)
	}
	a = h.rest(t, h.admin, "POST", at+"/actions/say?timeout=20s", `{"text":"hi <you>"}`)
	if a.status != 200 || a.text != `{"text":"hello hi <you>"}` || a.header.Get("Pollux-Outcome") != "done" {
		t.Errorf("%d %s", a.status, a.text)
	}
	var counts [3]string
	for i, key := range []string{"k1", "k1", "k2"} {
		counts[i] = h.rest(t, h.admin, "POST", at+"/actions/count", "", "Idempotency-Key: "+key).text
	}
	if counts != [3]string{"1", "1", "2"} {
		t.Errorf("calls by idempotency key: %v", counts)
	}
	var queued struct{ Outcome, CommandId string }
	if a = h.rest(t, h.admin, "POST", at+"/actions/count?no_wait=true", ""); a.status != 202 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a.decode(t, &queued); queued.Outcome != "queued" || queued.CommandId == "" {
		t.Errorf("%+v", queued)
	}
}

func TestRestListsByPages(t *testing.T) {
	h, p := openHouse(t), fresh("restlist")
	var want, got []string
	for i := range 5 {
		id := fmt.Sprintf("%s/t%d", p, i)
		h.another(t, id)
		want = append(want, id)
	}
	pages := 0
	for path := "/v1/twins?page_size=2&project=" + p; path != ""; pages++ {
		a := h.rest(t, h.admin, "GET", path, "")
		var page struct {
			Twins         []struct{ Id string }
			NextPageToken string
		}
		if a.decode(t, &page); a.status != 200 {
			t.Fatal(a.text)
		}
		for _, twin := range page.Twins {
			got = append(got, twin.Id)
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
		if path = next; (next == "") != (page.NextPageToken == "") || next != "" && !strings.Contains(next, url.QueryEscape(page.NextPageToken)) {
			t.Fatalf("Link %q, token %q", next, page.NextPageToken)
		}
	}
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%v in %d pages", got, pages)
	}
	if a := h.rest(t, h.admin, "GET", "/v1/twins?connection=sleeping&label=a=b&driver=echo&faulty=true&state=true&project="+p, ""); a.text != "{}" {
		t.Errorf("%d %s", a.status, a.text)
	}
}

// Every error says what, where and how to go on, with the status that fits, and nothing else is changed by it.
func TestRestProblems(t *testing.T) {
	h, p := openHouse(t), fresh("restbad")
	h.another(t, p+"/a")
	h.another(t, fresh("other")+"/b")
	_, viewer := h.newKey(t, &pb.Key{Name: "v", Role: "viewer", Project: p})
	_, operator := h.newKey(t, &pb.Key{Name: "o", Role: "operator", Project: p})
	_, device := h.newKey(t, &pb.Key{Name: "d", Role: "device", Device: p + "/a"})
	at := "/v1/twins/" + p + "/a"
	for _, c := range []struct {
		key, method, path, body string
		status                  int
		code, reason, where     string
	}{
		{"", "GET", at, "", 401, "unauthenticated", "unauthenticated", ""},
		{"plx_wrong", "GET", at, "", 401, "unauthenticated", "unauthenticated", ""},
		{device, "GET", at, "", 403, "permission_denied", "forbidden", ""},
		{viewer, "PUT", at + "/properties/level", "1", 403, "permission_denied", "forbidden", ""},
		{viewer, "POST", at + "/actions/count", "", 403, "permission_denied", "forbidden", ""},
		{operator, "GET", "/v1/twins/other/b", "", 403, "permission_denied", "forbidden", ""},
		{operator, "GET", "/v1/twins/other/b/events", "", 403, "permission_denied", "forbidden", ""},
		{operator, "GET", "/v1/twins?project=other", "", 403, "permission_denied", "forbidden", ""},
		{operator, "GET", "/v1/twins/" + p + "/none", "", 404, "not_found", "not_found", ""},
		{operator, "GET", "/v1/twins/" + p + "/none/events", "", 404, "not_found", "not_found", ""},
		{operator, "GET", at + "/properties/none", "", 404, "not_found", "not_found", ""},
		{operator, "GET", at + "/properties/label", "", 404, "not_found", "not_found", ""},
		{operator, "GET", at + "/nothing", "", 404, "not_found", "no_route", ""},
		{operator, "GET", "/v1/none", "", 404, "not_found", "no_route", ""},
		{operator, "DELETE", at, "", 405, "unimplemented", "method", ""},
		{operator, "GET", "/v1/twins/A/b", "", 400, "invalid_argument", "invalid", "id"},
		{operator, "GET", at + "?colour=red", "", 400, "invalid_argument", "invalid", "query.colour"},
		{operator, "GET", at + "?model=yes", "", 400, "invalid_argument", "invalid", "query.model"},
		{operator, "GET", at + "?model=true&model=true", "", 400, "invalid_argument", "invalid", "query.model"},
		{operator, "GET", "/v1/twins?project=%zz", "", 400, "invalid_argument", "invalid", "query"},
		{operator, "GET", "/v1/twins?state=true;faulty=true", "", 400, "invalid_argument", "invalid", "query"},
		{operator, "GET", "/v1/history/" + p + "/export?start=%zz", "", 400, "invalid_argument", "invalid", "query"},
		{operator, "GET", "/v1/history/" + p + "/export?end=-1h&end=-2h", "", 400, "invalid_argument", "invalid", "query.end"},
		{operator, "POST", at + "/actions/count?queue=%FF", "", 400, "invalid_argument", "invalid", "query.queue"},
		{operator, "GET", at + "/properties/%FF", "", 400, "invalid_argument", "invalid", "path"},
		{operator, "GET", "/v1/twins?page_size=2000", "", 400, "invalid_argument", "invalid", "page_size"},
		{operator, "GET", "/v1/twins?page_token=x", "", 400, "invalid_argument", "invalid", "page_token"},
		{operator, "PUT", at + "/properties/level", "", 400, "invalid_argument", "invalid", "body"},
		{operator, "PUT", at + "/properties/level", "{", 400, "invalid_argument", "invalid", "body"},
		{operator, "PUT", at + "/properties/level", `"warm"`, 400, "invalid_argument", "invalid", "/value"},
		{operator, "PUT", at + "/properties/count", "1", 400, "invalid_argument", "invalid", "/property"},
		{operator, "PUT", at + "/properties/level?wait=an+hour", "1", 400, "invalid_argument", "invalid", "query.wait"},
		{operator, "PUT", at + "/properties/level?valid_for=9999h", "1", 400, "invalid_argument", "invalid", "valid_for"},
		{operator, "PUT", at + "/properties/level", strings.Repeat("[", 101) + strings.Repeat("]", 101), 400, "invalid_argument", "invalid", "body"},
		{operator, "PUT", at + "/properties/level", `"` + strings.Repeat("x", 2<<20) + `"`, 413, "resource_exhausted", "too_large", ""},
		{operator, "POST", at + "/actions/fail", `{"text":"no"}`, 409, "failed_precondition", "rejected", ""},
		{operator, "POST", at + "/actions/none", "", 400, "invalid_argument", "invalid", "/action"},
		{operator, "GET", at + "/history", "", 400, "invalid_argument", "invalid", "property"},
		{operator, "GET", at + "/history?property=level&start=yesterday", "", 400, "invalid_argument", "invalid", "query.start"},
		{operator, "GET", at + "/history?property=label&step=1m", "", 400, "invalid_argument", "invalid", "aggregate"},
		{operator, "GET", at + "/history?property=level&fill=linear", "", 400, "invalid_argument", "invalid", "fill"},
		{operator, "GET", at + "/history?property=level&page_token=x", "", 400, "invalid_argument", "invalid", "page_token"},
	} {
		name := c.method + " " + c.path + " " + c.body[:min(len(c.body), 20)]
		a := h.rest(t, c.key, c.method, c.path, c.body)
		got := a.problem(t)
		if a.status != c.status || got.Code != c.code || got.Reason != c.reason || got.Path != c.where || got.Detail == "" || got.Instance == "" {
			t.Errorf("%s: %s", name, a.text)
		}
		if c.status == 401 && a.header.Get("WWW-Authenticate") == "" || c.status == 405 && a.header.Get("Allow") != "GET" {
			t.Errorf("%s: %v", name, a.header)
		}
	}
	a := h.rest(t, operator, "PUT", at+"/properties/level", "1", "Content-Type: application/x-www-form-urlencoded")
	if got := a.problem(t); a.status != 415 || got.Path != "header.Content-Type" {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := h.rest(t, operator, "POST", at+"/actions/count", "", "Idempotency-Key: k\xff").problem(t); a.Status != 400 || a.Path != "header.Idempotency-Key" {
		t.Errorf("%+v", a)
	}
	if a := h.rest(t, operator, "POST", at+"/actions/fail", `{"text":"no"}`).problem(t); a.Outcome != "rejected" || !strings.Contains(a.Detail, "no") {
		t.Errorf("%+v", a)
	}
	if a := h.rest(t, operator, "GET", at+"/properties", ""); a.text != "{}" {
		t.Errorf("a refused request changed the twin: %s", a.text)
	}
}

// What is asked may come as gzip, as what devices send may; it is bounded as what comes plain.
func TestRestTakesGzip(t *testing.T) {
	h := openHouse(t)
	p := fresh("rgz")
	h.echo(t, p+"/lamp")
	at := "/v1/twins/" + p + "/lamp"
	zip := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(text)); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const packed = "Content-Encoding: gzip"
	if a := h.rest(t, h.admin, "POST", at+"/actions/say", zip(`{"text":"hi"}`), packed); a.status != 200 || !strings.Contains(a.text, "hi") {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := h.rest(t, h.admin, "PUT", at+"/properties/level?wait=30s", zip("40"), packed); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text)
	}
	for name, c := range map[string]struct {
		body, header, path string
		status             int
	}{
		"no gzip":          {"40", packed, "body", 400},
		"half of it":       {zip("40")[:20], packed, "body", 400},
		"a bomb":           {zip(strings.Repeat(" ", 20<<20)), packed, "", 413},
		"another encoding": {"40", "Content-Encoding: br", "header.Content-Encoding", 415},
	} {
		a := h.rest(t, h.admin, "PUT", at+"/properties/level", c.body, c.header)
		if got := a.problem(t); a.status != c.status || got.Path != c.path || got.Detail == "" {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
}

// A page of another site must not use the console's cookie; the console's own may.
func TestRestTakesTheCookieFromOurOwnPagesOnly(t *testing.T) {
	h, p := openHouse(t), fresh("restcookie")
	h.another(t, p+"/a")
	login := h.rest(t, "", "POST", "/login", `{"key":"`+h.admin+`"}`, "Origin: "+h.url)
	cookie, _, _ := strings.Cut(login.header.Get("Set-Cookie"), ";")
	if !strings.HasPrefix(cookie, rpc.SessionCookie+"=") {
		t.Fatalf("%d %s", login.status, login.text)
	}
	put := func(headers ...string) int {
		return h.rest(t, "", "PUT", "/v1/twins/"+p+"/a/properties/level", "3", append(headers, "Cookie: "+cookie)...).status
	}
	if got := put("Origin: " + h.url); got != 202 {
		t.Errorf("own page: %d", got)
	}
	if got := put("Origin: https://evil.example"); got != 403 {
		t.Errorf("other page: %d", got)
	}
	if got := put(); got != 403 {
		t.Errorf("no page: %d", got)
	}
	if got := h.rest(t, "", "GET", "/v1/twins/"+p+"/a", "", "Cookie: "+cookie, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors").status; got != 403 {
		t.Errorf("read by another page: %d", got)
	}
}

// plain: a twin is read, used and followed by plain HTTP on the node that does not have it.
func (p *pair) plain(t *testing.T, far string) {
	h := &house{url: p.a.public.URL, admin: p.admin}
	at := "/v1/twins/" + far
	events, values := h.stream(t.Context(), t, h.admin, at+"/events/ticked"), h.stream(t.Context(), t, h.admin, at+"/properties/level")
	if a := h.rest(t, h.admin, "PUT", at+"/properties/level?wait=30s", "31"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	for values.next().data != "31" {
		continue
	}
	if a := h.rest(t, h.admin, "GET", at+"/properties/level", ""); a.text != "31" {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := h.rest(t, h.admin, "POST", at+"/actions/tick", `{"after_ms":1}`); a.status >= 300 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if got := events.next(); got.data != `"tock"` {
		t.Errorf("%+v", got)
	}
}

func TestRestHistory(t *testing.T) {
	h, p := openHouse(t), fresh("resthist")
	h.another(t, p+"/a")
	at := "/v1/twins/" + p + "/a"
	if a := h.rest(t, h.admin, "PUT", at+"/properties/level?wait=30s", "0"); a.status != 200 {
		t.Fatal(a.text)
	}
	for deadline := time.Now().Add(patience); ; {
		var out struct {
			Samples []struct{ Value *float64 }
			Unit    string
		}
		a := h.rest(t, h.admin, "GET", at+"/history?property=level&start=-5m&step=1m&aggregate=max", "")
		if a.decode(t, &out); a.status == 200 && len(out.Samples) == 1 && out.Samples[0].Value != nil && *out.Samples[0].Value == 0 && out.Unit == "percent" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %s", a.status, a.text)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestRestWalksDownThePlaces(t *testing.T) {
	h, p := openHouse(t), fresh("restwalk")
	h.another(t, p+"/lamp")
	h.another(t, p+"/hall")
	site := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url)
	for _, z := range []*pb.Zone{{Id: p + "/house"}, {Id: p + "/floor", Parent: p + "/house"}, {Id: p + "/attic", Parent: p + "/house"}} {
		if _, err := site.PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: z})); err != nil {
			t.Fatal(err)
		}
	}
	res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: p + "/lamp"}))
	if err != nil {
		t.Fatal(err)
	}
	res.Msg.Twin.Zone = p + "/floor"
	if _, err := h.twins(h.admin).UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: res.Msg.Twin})); err != nil {
		t.Fatal(err)
	}
	type ids struct{ Id, Zone string }
	for path, want := range map[string]string{
		p: "[] [house]", p + "/": "[] [house]", p + "/house": "house [attic floor] []", p + "/house/floor": "floor [] [lamp]", p + "/house/floor/lamp": "floor lamp",
		p + "/house/lamp": "404", p + "/floor": "404", p + "/lamp": "404", p + "/house/none/lamp": "404", p + "/house/hall": "404", "A": "400",
	} {
		a := h.rest(t, h.admin, "GET", "/v1/walk/"+path, "")
		var out struct {
			Path         []string
			Zone, Twin   *ids
			Zones, Twins []ids
		}
		got := fmt.Sprint(a.status)
		if a.status == 200 {
			a.decode(t, &out)
			name := func(x ids) string { return strings.TrimPrefix(x.Id, p+"/") }
			list := func(all []ids) []string {
				names := []string{}
				for _, x := range all {
					names = append(names, name(x))
				}
				return names
			}
			switch {
			case out.Twin != nil:
				got = name(*out.Zone) + " " + name(*out.Twin)
			case out.Zone != nil:
				got = fmt.Sprint(name(*out.Zone), " ", list(out.Zones), " ", list(out.Twins))
			default:
				got = fmt.Sprint("[] ", list(out.Zones))
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s: %s", path, got, want, a.text)
		}
	}
}

// The description says what there is: each operation of it is answered by the mux, and not as a path that is unknown.
func TestOpenAPIDescribesTheMux(t *testing.T) {
	h := openHouse(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	a := h.rest(t, h.admin, "GET", "/openapi.json", "")
	if a.decode(t, &doc); doc.OpenAPI != "3.1.0" || len(doc.Paths) < 8 {
		t.Fatalf("%s, %d paths", doc.OpenAPI, len(doc.Paths))
	}
	fill := strings.NewReplacer("{project}", "p", "{name}", "none", "{property}", "x", "{action}", "x", "{event}", "x", "{path}", "p")
	for path, item := range doc.Paths {
		for method, text := range item {
			var op struct{ OperationId string }
			if method == "parameters" {
				continue
			}
			if err := json.Unmarshal(text, &op); err != nil {
				t.Fatal(err)
			}
			a := h.rest(t, "", strings.ToUpper(method), fill.Replace(path), "")
			if a.status != 401 || op.OperationId == "" {
				t.Errorf("%s %s: %d %s", method, path, a.status, a.text)
			}
		}
	}
}
