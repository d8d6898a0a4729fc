package rpc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
)

// described is the plain REST API as /openapi.json has it, for holding answers against it.
type described struct {
	h      *house
	t      *testing.T
	random *rand.Rand
	paths  map[string]map[string]describedOperation
	// schemas by the pointer to them.
	compiler *jsonschema.Compiler
	// keys by what they may do, and words for what is in braces in paths.
	keys  map[string]string
	words map[string][]string
	// secret is in the foreign project only.
	secret string
	// wild: the request that is made up now need not be as the description says.
	wild bool
	// fitting bodies by property and action.
	fitting map[string]string
	seen    map[string]int
}

type describedOperation struct {
	OperationID string
	Parameters  []describedParam
	RequestBody *struct{ Required bool }
	Responses   map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]any
		Headers map[string]any
	}
}

type describedParam struct {
	Name, In string
	Required bool
	Schema   struct {
		Type             string
		Enum             []string
		Minimum, Maximum *int64
	}
}

// describe fetches the description, each object of which is taken to have no other members than it says.
func describe(t *testing.T, h *house, seed uint64) *described {
	t.Helper()
	d := &described{h: h, t: t, random: rand.New(rand.NewPCG(seed, 17)), paths: map[string]map[string]describedOperation{}, compiler: jsonschema.NewCompiler(), seen: map[string]int{}}
	a := h.rest(t, h.admin, "GET", "/openapi.json", "")
	var doc map[string]any
	a.decode(t, &doc)
	for _, s := range doc["components"].(map[string]any)["schemas"].(map[string]any) {
		if s := s.(map[string]any); s["properties"] != nil {
			s["additionalProperties"] = false
		}
	}
	if err := d.compiler.AddResource("api.json", doc); err != nil {
		t.Fatal(err)
	}
	d.compiler.AssertFormat()
	var all struct {
		Paths map[string]map[string]json.RawMessage
	}
	a.decode(t, &all)
	for path, item := range all.Paths {
		d.paths[path] = map[string]describedOperation{}
		delete(item, "parameters")
		for method, text := range item {
			var op describedOperation
			if err := json.Unmarshal(text, &op); err != nil {
				t.Fatal(err)
			}
			d.paths[path][strings.ToUpper(method)] = op
		}
	}
	return d
}

const describedModel = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"All \"kinds\" é\n","properties":{
	"flag":{"type":"boolean"},"whole":{"type":"integer","minimum":-9007199254740991},"real":{"type":"number","unit":"Cel"},"text":{"type":"string"},
	"choice":{"type":"string","enum":["a b","ü","\"q\""],"pollux:virtual":true},"object":{"type":"object","properties":{"a":{"type":"number"}}},
	"list":{"type":"array","items":{"type":"number"}},"place":{"type":"object","properties":{"lat":{"type":"number"},"lon":{"type":"number"}}},
	"told":{"type":"number","readOnly":true},"asked":{"type":"string","writeOnly":true},"a.b-c_D":{"type":"number"},"level":{"type":"number"}},
	"actions":{"go":{"input":{"type":"object"},"output":{"type":"string"}},"bare":{}},"events":{"rang":{"data":{"type":"object"}},"bare":{}}}`

// furnish makes what is asked about.
func (d *described) furnish() {
	t, h, p, other := d.t, d.h, fresh("described"), fresh("undescribed")
	d.secret = "marker-of-" + other
	for _, project := range []string{p, other} {
		if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(),
			req(&pb.CreateModelRequest{Model: &pb.Model{Id: project + "/kinds", ThingJson: describedModel}})); err != nil {
			t.Fatal(err)
		}
		if _, err := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url).PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: project + "/hall", Title: "Hall é",
			Place: &pb.Place{Latitude: 52.5, Longitude: 13.4}}})); err != nil {
			t.Fatal(err)
		}
		if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: project + "/room", Model: "kinds", Zone: project + "/hall",
			Labels: map[string]string{"floor": "3"}}})); err != nil {
			t.Fatal(err)
		}
		text := `full "é"`
		if project == other {
			text = d.secret
		}
		body := fmt.Sprintf(`{"flag":true,"whole":9007199254740991,"real":-1.5e-7,"text":%q,"choice":"ü","object":{"a":1,"b":[null,{"c":"d"}]},"list":[1,2.5],
			"place":{"lat":52.5,"lon":13.4},"told":1e300,"a.b-c_D":0}`, text)
		if status, a := h.ingest(t, h.admin, project+"/room", body); status != http.StatusOK {
			t.Fatalf("%d %+v", status, a)
		}
	}
	h.another(t, p+"/echo")
	d.keys = map[string]string{"admin": h.admin, "none": "", "wrong": "plx_wrong"}
	_, d.keys["operator"] = h.newKey(t, &pb.Key{Name: "o", Role: "operator", Project: p})
	_, d.keys["viewer"] = h.newKey(t, &pb.Key{Name: "v", Role: "viewer", Project: p})
	_, d.keys["device"] = h.newKey(t, &pb.Key{Name: "d", Role: "device", Device: p + "/room"})
	d.fitting = map[string]string{"flag": "true", "whole": "3", "real": "-1.5", "text": `"ü"`, "choice": `"a b"`, "object": `{"a":1}`, "list": "[1]", "place": `{"lat":1,"lon":2}`, "told": "1",
		"asked": `"x"`, "a.b-c_D": "0", "level": "21.5", "count": "", "echo": "null", "say": `{"text":"hi"}`, "fail": `{"text":"no"}`, "go": "{}"}
	d.words = map[string][]string{
		"project":  {p, p, p, p, p, p, p, other, "none", "A", "%00", "é"},
		"name":     {"room", "room", "room", "room", "echo", "echo", "echo", "none", "Room", "a b", "x\x00y", "é/ü"},
		"property": {"flag", "whole", "real", "text", "choice", "object", "list", "place", "told", "asked", "a.b-c_D", "level", "count", "none", "é/ü", "a b?c#d", strings.Repeat("x", 3000), "\xff"},
		"action":   {"echo", "say", "count", "fail", "go", "bare", "none", "é/ü", strings.Repeat("x", 3000), "\xff"},
		"event":    {"rang", "bare", "ticked", "none", "é/ü", "\xff"},
		"path":     {p, p + "/hall", p + "/hall/room", p + "/hall/room/@type", p + "/", "none", "é", p + "/hall/\xff", other + "/hall", other + "/hall/room", strings.Repeat("a/", 2000)},
	}
}

var odd = []string{"", "NaN", "-1", "0", "1", "99999999999999999999", "1e400", "a b", "%", "\x00", "\xff", "ünï→🙂", "null", "true", "false", "2026-13-45", "-2h", "0001-01-01T00:00:00Z",
	"9999-12-31T23:59:59.999999999Z", "[]", `{"a":1}`, strings.Repeat("y", 5000), "1ms", "-1s", "p101", "p50", "sum", "linear", "K", "52.5,13.4", "52.5,13.4,100000", "NaN,NaN,NaN", "floor=3", "=", "twin.id != ''", "1/0 == 1"}

// word makes up a value of a parameter; one that is as it should be may be missing.
func (d *described) word(p *describedParam) (string, bool) {
	if d.wild && d.random.IntN(3) == 0 {
		return pickOf(d.random, odd), true
	}
	known := map[string]string{"project": d.words["project"][0], "property": "level", "wait": "20ms", "timeout": "1s", "delay": "1ms", "pause": "0.01", "valid_for": "30s", "queue": "q é",
		"step": "1m", "start": "-1h", "end": "-1s", "zone": d.words["project"][0] + "/hall", "label": "floor=3", "text": "oo", "q": "hall", "kind": "twin",
		"near": "52.5,13.4,1000", "where": "twin.id != ''", "model": "All", "driver": "echo", "Last-Event-ID": "x-1", "Idempotency-Key": fresh("key")}
	switch s := &p.Schema; {
	case len(s.Enum) > 0:
		return pickOf(d.random, s.Enum), true
	case s.Type == "boolean":
		return pickOf(d.random, []string{"true", "false"}), true
	case s.Type == "integer" && s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprint(*s.Minimum + d.random.Int64N(*s.Maximum-*s.Minimum+1)), true
	}
	word, ok := known[p.Name]
	return word, ok
}

func pickOf[T any](random *rand.Rand, of []T) T { return of[random.IntN(len(of))] }

var bodies = []string{"", "null", "true", "1", "-0", "1.5", "1e308", "1e400", "9007199254740993", "123456789012345678901234567890", `"a b"`, `"ü"`, `"\ud800"`, "\"\xff\"", `"\u0000"`, "{}", `{"text":"hi"}`, `{"text":1}`,
	`{"a":1,"a":2}`, "[]", "[1,2]", "[1,", "NaN", "{", "1 2", "\xef\xbb\xbf1", "'a'", strings.Repeat("[", 200) + strings.Repeat("]", 200), `{"lat":52.5,"lon":13.4}`}

// fill puts words in for what is in braces.
func (d *described) fill(path string) string {
	known := map[string]string{"project": d.words["project"][0], "name": "room", "property": pickOf(d.random, []string{"flag", "whole", "real", "text", "choice", "object", "list", "place", "a.b-c_D"}),
		"action": pickOf(d.random, []string{"echo", "say", "count", "fail"}), "event": "rang", "path": d.words["project"][0] + "/hall/room"}
	if strings.Contains(path, "{action}") || d.random.IntN(4) == 0 {
		known["name"], known["property"] = "echo", "level"
	}
	for _, name := range slices.Sorted(maps.Keys(d.words)) {
		word := known[name]
		if d.wild {
			word = pickOf(d.random, d.words[name])
		}
		escaped := url.PathEscape(word)
		if name == "path" && d.random.IntN(2) == 0 { // slashes are as they are, or written otherwise
			escaped = strings.ReplaceAll(escaped, "%2F", "/")
		}
		path = strings.ReplaceAll(path, "{"+name+"}", escaped)
	}
	return path
}

// request makes one up for an operation.
func (d *described) request(method, path string, op *describedOperation) (r *http.Request, body string) {
	path = d.fill(path)
	query, headers := url.Values{}, http.Header{}
	for i := range op.Parameters {
		p := &op.Parameters[i]
		word, ok := d.word(p)
		switch {
		case !ok, d.random.IntN(4) > 0 && !p.Required, d.wild && d.random.IntN(20) == 0:
		case p.In == "header" && !strings.ContainsAny(word, "\x00"):
			headers.Set(p.Name, word)
		case p.In == "query":
			query.Add(p.Name, word)
			if d.wild && d.random.IntN(15) == 0 {
				query.Add(p.Name, word)
			}
		}
	}
	body = d.fitting[path[strings.LastIndexByte(path, '/')+1:]]
	if d.wild {
		body = pickOf(d.random, bodies)
	}
	if op.RequestBody == nil && (!d.wild || d.random.IntN(10) > 0) {
		body = ""
	}
	if path += "?" + query.Encode(); d.wild && d.random.IntN(30) == 0 {
		path += pickOf(d.random, []string{"&x=1", "&a=%zz", "&a;b", "&%ff=1"})
	}
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.h.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatalf("%s %q: %v", method, path, err)
	}
	r.Header = headers
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range [][2]string{{"Content-Type", "text/plain"}, {"Content-Encoding", "gzip"}, {"Accept", "text/event-stream"}} {
		if d.wild && d.random.IntN(12) == 0 {
			r.Header.Set(h[0], h[1])
		}
	}
	return r, body
}

// TestAnswersAreThoseDescribed sends each operation of /openapi.json what it asks for and what it does not. Each answer is one that the description has.
func TestAnswersAreThoseDescribed(t *testing.T) {
	harness.Seeds(t, 2, func(t *testing.T, seed uint64) {
		d := describe(t, openHouse(t), seed)
		d.furnish()
		for range 250 {
			for _, path := range slices.Sorted(maps.Keys(d.paths)) {
				for _, method := range slices.Sorted(maps.Keys(d.paths[path])) {
					op := d.paths[path][method]
					d.once(method, path, &op)
				}
			}
		}
		if a := d.h.rest(t, d.h.admin, "PUT", "/v1/twins/"+d.words["project"][0]+"/room/properties/choice?wait=30s", `"ü"`); a.status == 200 {
			d.seen["setProperty 200"]++ // how long a device takes is no matter of chance
		}
		for path, item := range d.paths { // whoever may, gets what is promised
			for method, op := range item {
				for status, r := range op.Responses {
					if what := op.OperationID + " " + status; r.Ref == "" && d.seen[what] == 0 {
						t.Errorf("%s %s was never answered by %s", method, path, status)
					}
				}
			}
		}
	})
}

func (d *described) once(method, path string, op *describedOperation) {
	t := d.t
	who := pickOf(d.random, []string{"admin", "admin", "admin", "operator", "operator", "operator", "viewer", "device", "none", "wrong"})
	d.wild = d.random.IntN(2) == 0
	r, body := d.request(method, path, op)
	if method == http.MethodGet && d.random.IntN(10) == 0 {
		r.Method = http.MethodHead
	}
	name := fmt.Sprintf("%s: %s %s %.200q %v", who, r.Method, r.URL, body, r.Header)
	res, err := d.h.http(d.keys[who]).Do(r)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer res.Body.Close()
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	var text []byte
	if kind != "text/event-stream" {
		if text, err = io.ReadAll(res.Body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.seen[op.OperationID+" "+strconv.Itoa(res.StatusCode)]++
	if !d.may(who, method, op, res.StatusCode) || who != "admin" && bytes.Contains(text, []byte(d.secret)) {
		t.Errorf("%s: %d %.300s", name, res.StatusCode, text)
	}
	if err := d.has(method, path, op, res, kind, text); err != nil {
		t.Errorf("%s: %d %s %.500s\n%v", name, res.StatusCode, kind, text, err)
	}
}

// may says whether somebody may get an answer of this status.
func (d *described) may(who, method string, op *describedOperation, status int) bool {
	switch {
	case who == "none" || who == "wrong":
		return status == http.StatusUnauthorized
	case who == "device", who == "viewer" && method != http.MethodGet:
		return status == http.StatusForbidden
	case d.wild:
		return status < 500 || status == http.StatusGatewayTimeout
	}
	switch status {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return true
	case http.StatusNotFound:
		return op.OperationID == "getProperty" // nothing was reported yet
	case http.StatusConflict, http.StatusGatewayTimeout:
		return method != http.MethodGet
	case http.StatusBadRequest:
		return op.OperationID == "queryHistory" || op.OperationID == "search" // some parameters do not go with others
	}
	return false
}

// has says what is wrong with an answer by the description of its operation.
func (d *described) has(method, path string, op *describedOperation, res *http.Response, kind string, text []byte) error {
	status := strconv.Itoa(res.StatusCode)
	pointer := "api.json#/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(path) + "/" + strings.ToLower(method) + "/responses/" + status + "/"
	answer, declared := op.Responses[status]
	switch {
	case !declared && (res.StatusCode < 400 || kind != "application/problem+json"):
		return errors.New("there is no such answer")
	case !declared:
		pointer = "api.json#/components/responses/Problem/"
	case answer.Content[kind] == nil && len(answer.Content)+len(kind) > 0:
		return fmt.Errorf("want one of %v", answer.Content)
	}
	for header := range res.Header {
		if (header == "Link" || strings.HasPrefix(header, "Pollux-")) && answer.Headers[header] == nil {
			return fmt.Errorf("there is no header %s", header)
		}
	}
	if kind == "text/event-stream" || len(text) == 0 && (res.StatusCode == http.StatusNoContent || res.Request.Method == http.MethodHead) {
		return nil
	}
	schema, err := d.compiler.Compile(pointer + "content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}
