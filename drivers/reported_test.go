package drivers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

// thingOf compiles a model with one property, one event and one action.
func thingOf(t *testing.T, property, data, output string) *drivers.Model {
	t.Helper()
	m, err := drivers.NewModel(&drivers.Manifest{Model: fmt.Appendf(nil,
		`{"properties":{"p":%s},"events":{"e":{"data":%s}},"actions":{"a":{"output":%s}}}`, property, data, output)})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Data of an event are held to the types in the schema, wherever they are, and to nothing else of it.
func TestEventFits(t *testing.T) {
	for _, c := range []struct{ schema, data, want string }{
		{`{"type":"object","required":["a"],"properties":{"a":{"type":"number","maximum":1}},"additionalProperties":false}`, `{"a":2,"b":1}`, ""},
		{`{"type":"object","required":["a"],"properties":{"a":{"type":"number"}}}`, `{}`, ""},
		{`{"type":"object","properties":{"a":{"type":"number"}}}`, `null`, ""},
		{`{"type":"object","properties":{"a":{"type":"number"}}}`, ``, ""},
		{`{"type":"object","properties":{"a":{"type":"number"}}}`, `{"a":"1"}`, "event e: /a: got string, want number"},
		{`{"type":"object","properties":{"a":{"type":"number"}}}`, `[1]`, "event e: /: got array, want object"},
		{`{"type":"object","additionalProperties":{"type":"boolean"}}`, `{"x":1}`, "/x: got number, want boolean"},
		{`{"type":"array","maxItems":1,"items":{"type":"integer"}}`, `[1,2]`, ""},
		{`{"type":"array","items":{"type":"integer"}}`, `[1,2.5]`, "/1: got number, want integer"},
		{`{"type":"array","items":[{"type":"integer"},{"type":"string"}],"additionalItems":false}`, `[1,"x",true]`, ""},
		{`{"type":"array","items":[{"type":"integer"},{"type":"string"}]}`, `[1,2]`, "/1: got number, want string"},
		{`{"oneOf":[{"type":"string","const":"a"},{"type":"string","enum":["b"]},{"type":"integer"}]}`, `"c"`, ""},
		{`{"oneOf":[{"type":"string","const":"a"},{"type":"integer"}]}`, `true`, "want string"},
		{`{"type":"string","enum":["single","double"]}`, `"triple"`, ""},
		{`{"type":"integer"}`, `{"`, "is not valid JSON"},
		{`{"$ref":"#/not/x","not":{"x":{"type":"string"}}}`, `1`, ""},
		{`true`, `1`, ""}, {`{}`, `1`, ""},
	} {
		err := thingOf(t, `{"type":"number"}`, c.schema, `{}`).Event("e").Fits([]byte(c.data))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s of %s: %v, want %q", c.data, c.schema, err, c.want)
		}
	}
}

// An output is held to the whole schema.
func TestCheckOutput(t *testing.T) {
	m := thingOf(t, `{"type":"number"}`, `{}`, `{"type":"integer","minimum":1}`)
	for output, want := range map[string]string{"1": "", "0": "minimum: got 0, want 1", `"x"`: "output of a: /: got string, want integer", "": "got null, want integer"} {
		err := m.Action("a").CheckOutput([]byte(output))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", output, err, want)
		}
	}
}

// Whole numbers that would be rounded are no integers, nor can they be asked for, and what is no number at all is said in plain words.
func TestNumbersBeyond(t *testing.T) {
	for _, c := range []struct{ kind, value, want string }{
		{"integer", "9007199254740991", ""}, {"integer", "-9007199254740991", ""}, {"integer", "9e15", ""}, {"integer", "3.0", ""},
		{"integer", "9007199254740992", "9007199254740992 is a whole number beyond ±9007199254740991"},
		{"integer", "9007199254740993", "beyond ±9007199254740991"}, {"integer", "-1e300", "beyond ±9007199254740991"},
		{"integer", "1e400", "1e400 is beyond what a number can be"}, {"number", "1E400", "1E400 is beyond what a number can be"},
		{"number", strings.Repeat("9", 400), "is beyond what a number can be"},
		{"number", "9007199254740993", ""}, {"number", "1e308", ""}, {"integer", "3.5", "3.5 is no integer"}, {"string", "1e400", "1e400 is no string"},
	} {
		m := thingOf(t, fmt.Sprintf(`{"type":%q}`, c.kind), "{}", "{}")
		p := m.Property("p")
		got := p.Misfit([]byte(c.value))
		if (got == "") != p.Fits([]byte(c.value)) || c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s of %.30s: %q, want %q", c.kind, c.value, got, c.want)
		}
		if c.kind == "integer" {
			if err := m.ValidateProperty("p", []byte(c.value)); (err == nil) != (c.want == "") {
				t.Errorf("%s is asked for: %v", c.value, err)
			}
		}
	}
}
