package wot_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/wot"
)

const lamp = `{
	"@context": ["https://www.w3.org/2022/wot/td/v1.1", {"saref": "https://w3id.org/saref#"}],
	"@type": ["tm:ThingModel", "saref:Light"],
	"title": "Lamp", "version": {"model": "2.1.0"}, "tm:optional": ["/actions/fade"],
	"links": [{"rel": "tm:extends", "href": "base.tm.json", "type": "application/tm+json"}, {"rel": "manufacturer", "href": "https://lamp.example"}],
	"saref:hasFunction": {"deep": [1, {"x": 12345678901234567890}]},
	"properties": {
		"power": {"type": "boolean", "pollux:queue": {"name": "power"}, "saref:kind": "OnOff"},
		"watts": {"type": "number", "unit": "W", "readOnly": true},
		"pin": {"type": "string", "writeOnly": true}
	},
	"actions": {"fade": {"input": {"type": "object", "properties": {"ms": {"type": "integer"}}}, "safe": false}},
	"events": {"blown": {"data": {"type": "string"}}}
}`

func describe(t *testing.T, thing wot.Thing) map[string]any {
	t.Helper()
	text, err := thing.Describe()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// ops gives the operations of an affordance's forms, with what each form is.
func ops(affordance any) map[string]map[string]any {
	out := map[string]map[string]any{}
	forms, _ := affordance.(map[string]any)["forms"].([]any)
	for _, f := range forms {
		form := f.(map[string]any)
		for _, op := range form["op"].([]any) {
			out[op.(string)] = form
		}
	}
	return out
}

func TestDescribe(t *testing.T) {
	made := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	doc := describe(t, wot.Thing{ID: "hotel/lamp-1", Base: "https://pollux.example/v1/twins/hotel/lamp-1", Model: json.RawMessage(lamp),
		Instance: "1.4.0", Created: made})
	for name, want := range map[string]any{
		"id": "urn:pollux:hotel:lamp-1", "title": "lamp-1", "description": "Lamp", "base": "https://pollux.example/v1/twins/hotel/lamp-1/",
		"@type": []any{"saref:Light"}, "version": map[string]any{"model": "2.1.0", "instance": "1.4.0"}, "created": "2026-03-01T08:00:00Z",
		"security": []any{"key"}, "modified": nil, "tm:optional": nil,
	} {
		if !reflect.DeepEqual(doc[name], want) {
			t.Errorf("%s: %v, want %v", name, doc[name], want)
		}
	}
	if c := doc["@context"].([]any); c[0] != wot.Context || len(c) != 3 {
		t.Errorf("@context %v", c)
	}
	links := doc["links"].([]any)
	if len(links) != 2 || links[0].(map[string]any)["rel"] != "manufacturer" || links[1].(map[string]any)["rel"] != "type" {
		t.Errorf("links %v", links)
	}
	props := doc["properties"].(map[string]any)
	for name, want := range map[string][]string{
		"power": {"observeproperty", "readproperty", "unobserveproperty", "writeproperty"},
		"watts": {"observeproperty", "readproperty", "unobserveproperty"},
		"pin":   {"writeproperty"},
	} {
		var got []string
		for op := range ops(props[name]) {
			got = append(got, op)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	power := props["power"].(map[string]any)
	if f := ops(power)["writeproperty"]; f["href"] != "properties/power" || f["htv:methodName"] != "PUT" {
		t.Errorf("%v", f)
	}
	if f := ops(power)["observeproperty"]; f["subprotocol"] != "sse" || f["contentType"] != "application/json" {
		t.Errorf("%v", f)
	}
	if power["saref:kind"] != "OnOff" || power["pollux:queue"] == nil {
		t.Errorf("an extension is lost: %v", power)
	}
	if f := ops(doc["actions"].(map[string]any)["fade"])["invokeaction"]; f["href"] != "actions/fade" || f["htv:methodName"] != "POST" {
		t.Errorf("%v", f)
	}
	if f := ops(doc["events"].(map[string]any)["blown"])["subscribeevent"]; f["href"] != "events/blown" || f["subprotocol"] != "sse" {
		t.Errorf("%v", f)
	}
	if all := ops(doc); all["readallproperties"] == nil || all["observeallproperties"] == nil || all["subscribeallevents"] == nil {
		t.Errorf("%v", all)
	}
	text, err := (&wot.Thing{ID: "hotel/lamp-1", Model: json.RawMessage(lamp)}).Describe()
	if err != nil || !strings.Contains(string(text), "12345678901234567890") {
		t.Errorf("a number lost digits: %v %s", err, text)
	}
}

func TestDescribeWithoutAModel(t *testing.T) {
	doc := describe(t, wot.Thing{ID: "p/x", Base: "http://h/v1/twins/p/x", Title: "A thing"})
	if doc["title"] != "A thing" || doc["@type"] != nil || doc["version"] != nil || doc["description"] != nil {
		t.Errorf("%v", doc)
	}
}

// The title in several languages is that of the model: a client that prefers one of them would show all of its twins as the same.
func TestDescribeInSeveralLanguages(t *testing.T) {
	doc := describe(t, wot.Thing{ID: "p/x", Base: "http://h/v1/twins/p/x", Model: json.RawMessage(`{"title":"Lamp","titles":{"en":"Lamp","de":"Lampe"},
		"descriptions":{"de":"Leuchtet"},"properties":{"on":{"type":"boolean","titles":{"de":"An"}}}}`)})
	if doc["title"] != "x" || doc["titles"] != nil || doc["description"] != nil || !reflect.DeepEqual(doc["descriptions"], map[string]any{"de": "Leuchtet"}) {
		t.Errorf("%v", doc)
	}
	if p := doc["properties"].(map[string]any)["on"].(map[string]any); !reflect.DeepEqual(p["titles"], map[string]any{"de": "An"}) {
		t.Errorf("%v", p)
	}
}

func TestDescribeRefusesWhatIsNoModel(t *testing.T) {
	for _, model := range []string{`[]`, `{"properties":[]}`, `{"actions":{"go":1}}`, `{`} {
		if text, err := (&wot.Thing{ID: "p/x", Model: json.RawMessage(model)}).Describe(); err == nil || !strings.Contains(err.Error(), "p/x") {
			t.Errorf("%s: %v %s", model, err, text)
		}
	}
}

// A model that goes out is the one that came in, with every member that we do not know.
func TestModelKeepsEverything(t *testing.T) {
	text, err := wot.Model(json.RawMessage(lamp))
	if err != nil {
		t.Fatal(err)
	}
	var in, out map[string]any
	if json.Unmarshal([]byte(lamp), &in) != nil || json.Unmarshal(text, &out) != nil {
		t.Fatal(string(text))
	}
	if c := out["@context"].([]any); len(c) != 3 || !reflect.DeepEqual(c[2], map[string]any{"pollux": wot.Namespace}) {
		t.Errorf("@context %v: a term of ours is used", c)
	}
	delete(in, "@context")
	delete(out, "@context")
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %s", text)
	}
	again, err := wot.Model(text)
	if err != nil || string(again) != string(text) {
		t.Errorf("not the same the second time: %v\n%s\n%s", err, text, again)
	}
	for in, want := range map[string]string{
		`{"title":"x"}`: `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"x"}`,
		`{"@context":"c","@type":"tm:ThingModel","actions":{"a":{"input":{"type":["number","null"],"default":{"type":["x"]}}}}}`: `{"@context":"c","@type":"tm:ThingModel","actions":{"a":{"input":{"default":{"type":["x"]},"oneOf":[{"type":"number"},{"type":"null"}]}}}}`,
		`{"@context":"c","@type":"tm:ThingModel","events":{"e":{"data":{"type":["integer","number","null"]}}}}`:                  `{"@context":"c","@type":"tm:ThingModel","events":{"e":{"data":{"oneOf":[{"type":"number"},{"type":"null"}]}}}}`,
		`{"@type":"a:B","@context":"c"}`:     `{"@context":"c","@type":["tm:ThingModel","a:B"]}`,
		`{"@type":["a:B"],"@context":["c"]}`: `{"@context":["c"],"@type":["tm:ThingModel","a:B"]}`,
	} {
		if text, err := wot.Model(json.RawMessage(in)); err != nil || string(text) != want {
			t.Errorf("%s: %v %s", in, err, text)
		}
	}
	if _, err := wot.Model(json.RawMessage(`"x"`)); err == nil {
		t.Error("a string is no Thing Model")
	}
}

func TestDirectory(t *testing.T) {
	text, err := wot.Directory("http://127.0.0.1:7357")
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil || doc["@type"] != "ThingDirectory" || doc["base"] != "http://127.0.0.1:7357/" {
		t.Fatalf("%v %s", err, text)
	}
	if f := ops(doc["properties"].(map[string]any)["things"])["readproperty"]; f["href"] != "v1/things" {
		t.Errorf("%v", f)
	}
}
