package wot_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/polluxhq/pollux/drivers/wot"
)

// A list with a schema for each place is JSON Schema's prefixItems, wherever it is, and in data nothing is a schema.
func TestJSONSchema(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"array","items":[{"type":"number"},true]}`:   `{"type":"array","prefixItems":[{"type":"number"},true]}`,
		`{"items":[{}],"additionalItems":false,"maxItems":2}`: `{"prefixItems":[{}],"items":false,"maxItems":2}`,
		`{"items":[],"additionalItems":{"items":[{}]}}`:       `{"items":{"prefixItems":[{}]}}`,
		`{"items":[]}`: `{}`,
		`{"items":{"items":[{"properties":{"items":{"items":[{}]},"enum":{"items":[{}]}}}]}}`:        `{"items":{"prefixItems":[{"properties":{"items":{"prefixItems":[{}]},"enum":{"prefixItems":[{}]}}}]}}`,
		`{"oneOf":[{"items":[{}]}],"not":{"items":[{}]},"$defs":{"a":{"items":[{}]}}}`:               `{"oneOf":[{"prefixItems":[{}]}],"not":{"prefixItems":[{}]},"$defs":{"a":{"prefixItems":[{}]}}}`,
		`{"const":{"items":[1]},"default":{"items":[1]},"enum":[{"items":[1]}],"x:y":{"items":[1]}}`: `{"const":{"items":[1]},"default":{"items":[1]},"enum":[{"items":[1]}],"x:y":{"items":[1]}}`,
		`{"prefixItems":[{"items":[{}]}],"items":false}`:                                             `{"prefixItems":[{"prefixItems":[{}]}],"items":false}`,
		`{"prefixItems":[{}],"items":[{}]}`:                                                          `{"prefixItems":[{}],"items":[{}]}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{}]}`:                         `{"$schema":"http://json-schema.org/draft-07/schema#","items":[{}]}`,
		`true`: `true`,
	} {
		var got, expected any
		if json.Unmarshal([]byte(in), &got) != nil || json.Unmarshal([]byte(want), &expected) != nil {
			t.Fatalf("%s, %s", in, want)
		}
		if wot.JSONSchema(got); !reflect.DeepEqual(got, expected) {
			t.Errorf("%s became %v, want %s", in, got, want)
		}
	}
}

// What a driver says of the places of a list in JSON Schema's words goes out in those of 1.1, and is the same when it comes back.
func TestPlacesOfListsGoOut(t *testing.T) {
	const model = `{"@context":"c","@type":"tm:ThingModel","properties":{"pos":{"prefixItems":[{"type":["number","null"]},{"type":"string"}],"type":"array"},
		"some":{"items":{"type":"string"},"prefixItems":[{"type":"number"}],"type":"array"},"all":{"items":{"type":"number"},"type":"array"}},
		"actions":{"go":{"input":{"properties":{"default":{"prefixItems":[{"type":"number"}],"items":false}}}}},"events":{"e":{"data":{"items":[{"type":"number"}]}}}}`
	const want = `{"@context":"c","@type":"tm:ThingModel","actions":{"go":{"input":{"properties":{"default":{"additionalItems":false,"items":[{"type":"number"}]}}}}},` +
		`"events":{"e":{"data":{"items":[{"type":"number"}]}}},"properties":{"all":{"items":{"type":"number"},"type":"array"},` +
		`"pos":{"items":[{"oneOf":[{"type":"number"},{"type":"null"}]},{"type":"string"}],"type":"array"},` +
		`"some":{"additionalItems":{"type":"string"},"items":[{"type":"number"}],"type":"array"}}}`
	out, err := wot.Model(json.RawMessage(model))
	if err != nil || string(out) != want {
		t.Errorf("%v %s", err, out)
	}
	if again, err := wot.Model(out); err != nil || string(again) != want {
		t.Errorf("again: %v %s", err, again)
	}
	pos := describe(t, wot.Thing{ID: "p/x", Model: json.RawMessage(model)})["properties"].(map[string]any)["pos"].(map[string]any)
	if list, ok := pos["items"].([]any); !ok || len(list) != 2 || pos["prefixItems"] != nil {
		t.Errorf("described as %v", pos)
	}
}

func TestSchemas(t *testing.T) {
	var doc any
	if err := json.Unmarshal([]byte(`{"input":{"properties":{"b":{"items":[{},{"oneOf":[{}]}]},"a":true}},"output":{"items":{}},"uriVariables":{"u":{}},"enum":[{}],"forms":[{}],
		"not":{"$schema":"x","not":{}}}`), &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := wot.Schemas("/a", doc, func(path string, _ map[string]any) error {
		got = append(got, path)
		return nil
	})
	want := []string{"/a", "/a/input", "/a/input/properties/b", "/a/input/properties/b/items/0", "/a/input/properties/b/items/1", "/a/input/properties/b/items/1/oneOf/0",
		"/a/output", "/a/output/items", "/a/uriVariables/u"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", err, got)
	}
	enough := errors.New("enough")
	n := 0
	if err := wot.Schemas("", doc, func(string, map[string]any) error {
		if n++; n == 4 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) || n != 4 {
		t.Errorf("%v after %d", err, n)
	}
}
