package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Secret is how a secret setting reads.
const Secret = "***"

// Settings is a driver's settings schema. Immutable but for its compiled form; safe for concurrent use.
type Settings struct {
	doc     map[string]any
	secrets map[string]bool
	once    sync.Once
	schema  *jsonschema.Schema
	err     error
}

// ParseSettings reads a JSON Schema of an object; empty raw means that anything goes.
func ParseSettings(raw []byte) (*Settings, error) {
	s := &Settings{secrets: map[string]bool{}}
	if len(raw) == 0 {
		return s, nil
	}
	doc, err := decodeObject(raw, "settings schema")
	if err != nil {
		return nil, err
	}
	s.doc = doc
	for name, p := range s.properties() {
		if secret, _ := p["writeOnly"].(bool); secret {
			s.secrets[name] = true
		}
	}
	return s, nil
}

func (s *Settings) properties() map[string]map[string]any {
	out := map[string]map[string]any{}
	all, _ := s.doc["properties"].(map[string]any)
	for name, v := range all {
		if p, ok := v.(map[string]any); ok {
			out[name] = p
		}
	}
	return out
}

// Apply gives the settings with defaults filled in, or an *Error with the schema's path.
func (s *Settings) Apply(given map[string]any) (map[string]any, error) {
	full := maps.Clone(given)
	if full == nil {
		full = map[string]any{}
	}
	for name, p := range s.properties() {
		if _, ok := full[name]; ok {
			continue
		}
		if d, ok := p["default"]; ok {
			full[name] = d
		}
	}
	if s.doc == nil {
		return full, nil
	}
	s.once.Do(func() { s.schema, s.err = compile(s.doc) })
	if s.err != nil {
		return nil, &Error{Path: "/settings", Reason: "the driver's schema cannot be used: " + s.err.Error()}
	}
	if err := check(s.schema, full, "/settings"); err != nil {
		return nil, err
	}
	return full, nil
}

// Mask gives the settings with secrets as "***".
func (s *Settings) Mask(given map[string]any) map[string]any {
	out := maps.Clone(given)
	for name := range s.secrets {
		if _, ok := out[name]; ok {
			out[name] = Secret
		}
	}
	return out
}

// Unmask puts the old secrets where the new settings say "***".
func (s *Settings) Unmask(given, old map[string]any) map[string]any {
	out := maps.Clone(given)
	for name := range s.secrets {
		if out[name] != Secret {
			continue
		}
		if v, ok := old[name]; ok {
			out[name] = v
		} else {
			delete(out, name)
		}
	}
	return out
}

// Secrets lists the texts that must not be shown.
func (s *Settings) Secrets(given map[string]any) []string {
	var out []string
	for name := range s.secrets {
		if v, ok := given[name]; ok && v != nil && v != "" {
			out = append(out, fmt.Sprint(v))
		}
	}
	return out
}

// Substitute fills {NAME} in a template with settings. It fails where one is missing or not a plain value.
func Substitute(template string, settings map[string]any) (string, error) {
	var out []byte
	for i := 0; i < len(template); i++ {
		if template[i] != '{' {
			out = append(out, template[i])
			continue
		}
		end := i + 1
		for end < len(template) && template[end] != '}' {
			end++
		}
		if end == len(template) {
			return "", fmt.Errorf("%q: an open brace", template)
		}
		name := template[i+1 : end]
		switch v := settings[name].(type) {
		case string:
			out = append(out, v...)
		case float64, bool:
			b, _ := json.Marshal(v)
			out = append(out, b...)
		default:
			return "", &Error{Path: "/settings/" + name, Reason: fmt.Sprintf("needed for %q", template)}
		}
		i = end
	}
	return string(out), nil
}
