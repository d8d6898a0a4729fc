package conformance

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

// schema is as much of JSON Schema as is needed to think of a value that fits, most of the time.
type schema struct {
	Type        any                `json:"type"`
	Const       json.RawMessage    `json:"const"`
	Default     json.RawMessage    `json:"default"`
	Enum        []json.RawMessage  `json:"enum"`
	OneOf       []*schema          `json:"oneOf"`
	AnyOf       []*schema          `json:"anyOf"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Items       items              `json:"items"`
	PrefixItems []*schema          `json:"prefixItems"`
	MinItems    int                `json:"minItems"`
	MinLength   int                `json:"minLength"`
	Minimum     *float64           `json:"minimum"`
	Maximum     *float64           `json:"maximum"`
	Format      string             `json:"format"`
}

// UnmarshalJSON passes over true and false, which are schemas, too.
func (s *schema) UnmarshalJSON(text []byte) error {
	if text[0] != '{' {
		return nil
	}
	type plain schema
	return json.Unmarshal(text, (*plain)(s))
}

// items are a schema for all members of a list, or, in Thing Models, one for each place.
type items struct {
	all    *schema
	places []*schema
}

// UnmarshalJSON reads either.
func (x *items) UnmarshalJSON(text []byte) error {
	if text[0] == '[' {
		return json.Unmarshal(text, &x.places)
	}
	return json.Unmarshal(text, &x.all)
}

// value thinks of one. With all, members that are not required are there too.
func (s *schema) value(all bool, depth int) any {
	switch {
	case s == nil || depth > 16:
		return nil
	case s.Const != nil:
		return s.Const
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Properties != nil:
		return s.object(all, depth)
	case len(s.OneOf) > 0:
		return s.OneOf[0].value(all, depth+1)
	case len(s.AnyOf) > 0:
		return s.AnyOf[0].value(all, depth+1)
	}
	switch s.kind() {
	case "object":
		return map[string]any{}
	case "array":
		return s.list(all, depth)
	case "string":
		return s.text()
	case "boolean":
		return true
	case "integer", "number":
		return s.number()
	}
	return nil
}

// list has its least number of members, and one for each place that has a schema.
func (s *schema) list(all bool, depth int) []any {
	places := slices.Concat(s.PrefixItems, s.Items.places)
	out := make([]any, max(s.MinItems, len(places), 1))
	for i := range out {
		member := s.Items.all
		if i < len(places) {
			member = places[i]
		}
		out[i] = member.value(all, depth+1)
	}
	return out
}

// object has its members, those that the first of its alternatives needs among them.
func (s *schema) object(all bool, depth int) any {
	out := map[string]any{}
	for name, member := range s.Properties {
		if all || slices.Contains(s.Required, name) {
			out[name] = member.value(all, depth+1)
		}
	}
	for _, alternative := range append(s.OneOf, s.AnyOf...)[:min(1, len(s.OneOf)+len(s.AnyOf))] {
		for _, name := range alternative.Required {
			member := schema{}
			if own := s.Properties[name]; own != nil {
				member = *own
			}
			if other := alternative.Properties[name]; other != nil {
				member.Const, member.MinLength, member.Default = other.Const, max(other.MinLength, member.MinLength), nil
			}
			out[name] = member.value(all, depth+1)
		}
	}
	return out
}

func (s *schema) kind() string {
	switch t := s.Type.(type) {
	case string:
		return t
	case []any:
		if len(t) > 0 {
			name, _ := t[0].(string)
			return name
		}
	}
	if s.Properties != nil {
		return "object"
	}
	return ""
}

func (s *schema) text() string {
	switch s.Format {
	case "uri", "url":
		return "http://192.0.2.1/"
	case "date-time":
		return "2026-01-01T00:00:00Z"
	case "hostname":
		return "device.example"
	case "ipv4":
		return "192.0.2.1"
	}
	return strings.Repeat("x", max(s.MinLength, 1))
}

func (s *schema) number() any {
	n := 1.0
	if s.Minimum != nil && n < *s.Minimum {
		n = *s.Minimum
	}
	if s.Maximum != nil && n > *s.Maximum {
		n = *s.Maximum
	}
	return n
}

// sampleOf gives values that could fit a schema, the fullest first.
func sampleOf(text json.RawMessage) []string {
	var s schema
	if len(text) == 0 || json.Unmarshal(text, &s) != nil {
		return []string{"null"}
	}
	var out []string
	for _, all := range []bool{true, false} {
		if b, err := json.Marshal(s.value(all, 0)); err == nil {
			out = append(out, string(b))
		}
	}
	return append(out, "null")
}

// sampleSettings are settings that the driver's schema takes, with its defaults.
func sampleSettings(m *drivers.Model) ([]byte, error) {
	err := errors.New("none")
	for _, text := range append([]string{"{}"}, sampleOf(m.SettingsSchema())...) {
		if text == "null" {
			continue
		}
		full, why := m.ValidateSettings([]byte(text))
		if why == nil {
			return full, nil
		}
		err = why
	}
	return nil, err
}

// commands are inputs of event 5, one for each action and each writable property; without are those that no value was
// thought of for.
func commands(m *drivers.Model) (inputs []string, without []string) {
	for _, name := range m.Actions() {
		i := slices.IndexFunc(sampleOf(m.Action(name).Input), func(v string) bool { return m.ValidateAction(name, []byte(v)) == nil })
		if i < 0 {
			without = append(without, name)
			continue
		}
		inputs = append(inputs, object("action", name, "input", sampleOf(m.Action(name).Input)[i]))
	}
	for _, name := range m.Properties() {
		p := m.Property(name)
		if !p.Writable {
			continue
		}
		i := slices.IndexFunc(sampleOf(p.Schema), func(v string) bool { return m.ValidateProperty(name, []byte(v)) == nil })
		if i < 0 {
			without = append(without, name)
			continue
		}
		inputs = append(inputs, object("property", name, "value", sampleOf(p.Schema)[i]))
	}
	return inputs, without
}

func object(key, name, valueKey, value string) string {
	quoted, _ := json.Marshal(name)
	return `{"` + key + `":` + string(quoted) + `,"` + valueKey + `":` + value + `}`
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
