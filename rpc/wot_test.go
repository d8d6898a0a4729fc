package rpc_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// A key of one project finds the things of that project, by addresses that it can use.
func TestThingsAreThoseOfTheKey(t *testing.T) {
	h, p := openHouse(t), fresh("things")
	h.another(t, p+"/a")
	h.another(t, p+"/b")
	h.another(t, fresh("elsewhere")+"/c")
	_, key := h.newKey(t, &pb.Key{Name: "v", Role: "viewer", Project: p})
	var bases []string
	for path := "/v1/things?page_size=1"; path != ""; {
		a := h.rest(t, key, "GET", path, "")
		var page []struct{ Id, Base, Title string }
		if err := json.Unmarshal([]byte(a.text), &page); err != nil || a.header.Get("Content-Type") != "application/ld+json" || len(page) != 1 {
			t.Fatalf("%d %v %s", a.status, err, a.text)
		}
		bases = append(bases, page[0].Base)
		path, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	if len(bases) != 2 || bases[0] != h.url+"/v1/twins/"+p+"/a/" || bases[1] != h.url+"/v1/twins/"+p+"/b/" {
		t.Errorf("%v", bases)
	}
	var td struct {
		Properties map[string]struct{ Forms []struct{ Href string } }
	}
	a := h.rest(t, key, "GET", strings.TrimPrefix(bases[0], h.url)+"td", "")
	if err := json.Unmarshal([]byte(a.text), &td); err != nil || td.Properties["level"].Forms[0].Href != "properties/level" {
		t.Fatalf("%v %s", err, a.text)
	}
	if a := h.rest(t, key, "GET", strings.TrimPrefix(bases[0], h.url)+td.Properties["level"].Forms[0].Href, ""); a.status != 404 || a.problem(t).Reason != "not_found" {
		t.Errorf("a form leads to %d %s", a.status, a.text)
	}
	if a := h.rest(t, key, "GET", "/v1/things?page_size=101", ""); a.problem(t).Path != "query.page_size" {
		t.Error(a.text)
	}
	if a := h.rest(t, key, "GET", "/v1/things?project=elsewhere", ""); a.status != 403 {
		t.Error(a.text)
	}
	for _, path := range []string{"/.well-known/wot", "/v1/things", "/v1/twins/" + p + "/a/tm"} {
		if a := h.rest(t, "", "GET", path, ""); a.status != 401 {
			t.Errorf("%s without a key: %d", path, a.status)
		}
		if a := h.rest(t, key, "GET", path, ""); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
}

// unusual is a valid Thing Model with what few have.
const unusual = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"saref":"https://w3id.org/saref#","@language":"en"},"https://schema.example/ctx"],
	"@type":["saref:Light","tm:ThingModel","saref:Sensor"],"title":"Lamp","titles":{"en":"Lamp","de":"Lampe"},"description":"Glows","descriptions":{"en":"Glows","de":"Leuchtet"},
	"tm:optional":["/actions/fade","/properties/scene"],"version":{"model":"2.1.0"},"support":"mailto:help@lamp.example","saref:size":12345678901234567890,
	"links":[{"rel":"license","href":"https://lamp.example/license","hreflang":["de","en"]},{"rel":"icon","href":"https://lamp.example/i.png","sizes":"16x16","type":"image/png"}],
	"uriVariables":{"lang":{"type":"string","enum":["de","en"],"default":"de"}},"schemaDefinitions":{"fault":{"type":"object","properties":{"code":{"type":"integer"}}}},
	"properties":{
		"scene":{"@type":["saref:Scene"],"type":"string","enum":["day","night"],"titles":{"en":"Scene","de":"Szene"},"uriVariables":{"when":{"type":"integer","minimum":0}},"default":"day"},
		"colour":{"type":"object","properties":{"h":{"type":"number","minimum":0,"maximum":360},"type":{"type":"string","const":"hsv"},
			"extra":{"oneOf":[{"type":"string","maxLength":3},{"type":"array","items":{"type":"integer"},"minItems":1}]}},"required":["h"],"readOnly":true},
		"matrix":{"type":"array","items":{"type":"array","items":{"type":["number","null"]}},"maxItems":4,"writeOnly":true},
		"place":{"type":"array","items":[{"type":"number","unit":"deg","minimum":-90},{"type":"object","properties":{"list":{"type":"array","items":[{"type":"string"},{"type":["number","null"]}]}}},
			{"type":"array","items":[{"type":"boolean"}]}],"minItems":1},
		"ratio":{"type":"number","unit":"%","multipleOf":0.5,"exclusiveMaximum":100.5,"readOnly":true},
		"blob":{"type":"string","contentEncoding":"base64","contentMediaType":"image/png","readOnly":true}},
	"actions":{"fade":{"@type":"saref:Fade","input":{"type":"object","properties":{"ms":{"type":"integer","minimum":0},"to":{"oneOf":[{"const":"off"},{"type":"number"}]},
		"via":{"type":"array","items":[{"type":"integer"},{"type":"string"}]}},"required":["ms"]},
		"output":{"type":"array","items":[{"type":"null"},{"type":"number"}]},"safe":false,"idempotent":true,"uriVariables":{"dry":{"type":"boolean"}}},"reset":{}},
	"events":{"fault":{"data":{"type":"object","properties":{"code":{"type":"integer"},"text":{"type":["string","null"]},"at":{"type":"array","items":[{"type":"number"},{"type":"string"}]}}},"subscription":{"type":"integer"},"cancellation":{"type":"string"},
		"dataResponse":{"type":"boolean"}},"tick":{}}}`

// TestThingsGoRound: a model is handed out as it came, and the description of its twin makes a model with the same properties, actions and events.
func TestThingsGoRound(t *testing.T) {
	h, p := openHouse(t), fresh("round")
	models := rpcv1.NewModelServiceClient(h.http(h.admin), h.url)
	twin := func(name, thing string) (td, tm map[string]any) {
		t.Helper()
		if _, err := models.CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/" + name, ThingJson: thing}})); err != nil {
			t.Fatal(err)
		}
		if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: p + "/of-" + name, Model: name}})); err != nil {
			t.Fatal(err)
		}
		return h.document(t, p+"/of-"+name+"/td"), h.document(t, p+"/of-"+name+"/tm")
	}
	td, tm := twin("lamp", unusual)
	want := decoded(t, strings.NewReplacer(`{"type":["number","null"]}`, `{"oneOf":[{"type":"number"},{"type":"null"}]}`,
		`{"type":["string","null"]}`, `{"oneOf":[{"type":"string"},{"type":"null"}]}`).Replace(unusual))
	if !reflect.DeepEqual(tm, want) {
		t.Errorf("handed out: %v\nwant %v", tm, want)
	}
	text, err := json.Marshal(td)
	if err != nil {
		t.Fatal(err)
	}
	td2, tm2 := twin("again", string(text))
	for _, kind := range []string{"properties", "actions", "events"} {
		all, others := want[kind].(map[string]any), tm2[kind].(map[string]any)
		for name, x := range all {
			x, other := x.(map[string]any), others[name].(map[string]any)
			delete(other, "observable") // which descriptions say of every twin
			delete(other, "synchronous")
			if !reflect.DeepEqual(other, x) {
				t.Errorf("%s/%s: %v, want %v", kind, name, other, x)
			}
		}
		if len(all) != len(others) || !reflect.DeepEqual(td2[kind], td[kind]) {
			t.Errorf("%s: %v\nwant %v", kind, td2[kind], td[kind])
		}
	}
	for _, kept := range []string{"@type", "descriptions", "support", "saref:size", "uriVariables", "schemaDefinitions"} {
		if td[kept] == nil || !reflect.DeepEqual(td2[kept], td[kept]) {
			t.Errorf("%s: %v, want %v", kept, td2[kept], td[kept])
		}
	}
}

// document reads one of a twin's documents; numbers keep their digits.
func (h *house) document(t *testing.T, path string) map[string]any {
	t.Helper()
	a := h.rest(t, h.admin, "GET", "/v1/twins/"+path, "")
	if a.status != 200 {
		t.Fatalf("%s: %d %s", path, a.status, a.text)
	}
	return decoded(t, a.text)
}

func decoded(t *testing.T, text string) (doc map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return doc
}
