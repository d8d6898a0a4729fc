package drivers_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

// placed is a model with lists that have a schema for each place, as Thing Models say it and as JSON Schema does.
const placed = `{"properties": {
		"pos": {"type": "array", "minItems": 2, "items": [{"type": "number", "minimum": -90, "maximum": 90}, {"type": "number"}]},
		"only": {"type": "array", "items": [{"type": "string"}], "additionalItems": false},
		"free": {"type": "array", "items": []},
		"words": {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
		"deep": {"type": "object", "properties": {"items": {"type": "array", "items": [{"type": "array", "items": [{"type": "boolean"}]}]}}},
		"older": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "boolean"}]}
	},
	"actions": {"go": {"input": {"type": "object", "properties": {"to": {"type": "array", "items": [{"type": "integer"}, {"enum": ["m", "km"]}]}}},
		"output": {"type": "array", "items": [{"type": "string"}]}}},
	"events": {"gone": {"data": {"type": "array", "items": [{"type": "string"}]}}}}`

func TestEachPlaceOfAListHasItsSchema(t *testing.T) {
	m, err := drivers.NewModel(&drivers.Manifest{Model: []byte(placed)})
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"pos [48.1, 11.5]": "", "pos [48.1, 11.5, \"what follows is free\"]": "",
		"pos [91, 11.5]": "/0: ", "pos [48.1, \"11.5\"]": "/1: ", "pos [48.1]": "/: minItems",
		`only ["a"]`: "", "only []": "", `only ["a", "b"]`: "/1: ", `only [1]`: "/0: ",
		`free [1, "a"]`:  "",
		`words [1, "a"]`: "", `words ["a"]`: "/0: ", `words [1, 2]`: "/1: ",
		`deep {"items": [[true, 1], 2]}`: "", `deep {"items": [[1]]}`: "/items/0/0: ",
		"older [true, 1]": "", "older [1]": "/0: ",
	} {
		name, text, _ := strings.Cut(value, " ")
		holds(t, value, m.ValidateProperty(name, []byte(text)), want)
		holds(t, value, m.Property(name).Check([]byte(text)), want)
	}
	holds(t, "go", m.ValidateAction("go", []byte(`{"to": [5, "km", null]}`)), "")
	holds(t, "go", m.ValidateAction("go", []byte(`{"to": [5, "miles"]}`)), "/to/1: ")
}

// holds looks for a sentence in an error; none: there is to be no error.
func holds(t *testing.T, what string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// What is wrong with the schema of a place is told with the place, in the words of the model's author.
func TestASchemaOfAPlaceThatIsNone(t *testing.T) {
	for text, want := range map[string]string{
		`{"properties": {"a": {"type": "array", "items": [{"type": "number"}, {"type": "nonsense"}]}}}`:    "model/properties/a: is no JSON Schema: /items/1/type: ",
		`{"properties": {"a": {"type": "array", "items": [5]}}}`:                                           "model/properties/a: is no JSON Schema: /items/0: ",
		`{"properties": {"a": {"type": "array", "items": "number"}}}`:                                      "model/properties/a: is no JSON Schema: /items: ",
		`{"properties": {"a": {"type": "array", "items": [{}], "prefixItems": [{}]}}}`:                     "model/properties/a: is no JSON Schema: /items: ",
		`{"properties": {"a": {"type": "array", "prefixItems": [{"minimum": "x"}]}}}`:                      "model/properties/a: is no JSON Schema: /prefixItems/0/minimum: ",
		`{"actions": {"a": {"input": {"type": "object", "properties": {"b": {"items": [{"type": 5}]}}}}}}`: "model/actions/a/input: is no JSON Schema: /properties/b/items/0/type: ",
		`{"actions": {"a": {"output": {"items": [{"pattern": "("}]}}}}`:                                    "model/actions/a/output: is no JSON Schema: ",
		`{"events": {"a": {"data": {"items": [{"required": 1}]}}}}`:                                        "model/events/a/data: is no JSON Schema: /items/0/required: ",
	} {
		_, err := drivers.NewModel(&drivers.Manifest{Model: []byte(text)})
		var e *drivers.ManifestError
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), "manifest: "+want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
