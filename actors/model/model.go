package model

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Model is a Thing Model: what a kind of device has. Immutable; shared by all twins that have the same.
type Model struct {
	Title      string
	raw        []byte
	properties map[string]*affordance
	actions    map[string]*affordance
}

// affordance is a property, or an action with its input. Its schema is compiled when it is first used.
type affordance struct {
	readOnly bool
	unit     string
	doc      map[string]any // nil: anything goes
	once     sync.Once
	schema   *jsonschema.Schema
	err      error
}

// Parse reads a Thing Model (W3C Web of Things 1.1, JSON).
func Parse(raw []byte) (*Model, error) {
	doc, err := decodeObject(raw, "thing model")
	if err != nil {
		return nil, err
	}
	m := &Model{raw: raw, properties: map[string]*affordance{}, actions: map[string]*affordance{}}
	m.Title, _ = doc["title"].(string)
	err = each(doc, "properties", func(name string, a map[string]any) {
		p := &affordance{doc: dataSchema(a)}
		p.readOnly, _ = a["readOnly"].(bool)
		p.unit, _ = a["unit"].(string)
		m.properties[name] = p
	})
	if err != nil {
		return nil, err
	}
	err = each(doc, "actions", func(name string, a map[string]any) {
		act := &affordance{}
		if in, ok := a["input"].(map[string]any); ok {
			act.doc = dataSchema(in)
		}
		m.actions[name] = act
	})
	return m, err
}

func each(doc map[string]any, key string, fn func(string, map[string]any)) error {
	part, ok := doc[key]
	if !ok || part == nil {
		return nil
	}
	all, ok := part.(map[string]any)
	if !ok {
		return fmt.Errorf("thing model: %s: not an object", key)
	}
	for name, v := range all {
		a, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("thing model: %s/%s: not an object", key, name)
		}
		fn(name, a)
	}
	return nil
}

// Raw is the model as JSON. It must not be changed.
func (m *Model) Raw() []byte { return m.raw }

// HasProperty says whether the model names the property.
func (m *Model) HasProperty(name string) bool { return m.properties[name] != nil }

// Unit of a property, or "".
func (m *Model) Unit(property string) string {
	if p := m.properties[property]; p != nil {
		return p.unit
	}
	return ""
}

// Patched gives the model with a JSON merge patch (RFC 7396) applied.
func (m *Model) Patched(patch []byte) (*Model, error) {
	p, err := decodeObject(patch, "model patch")
	if err != nil {
		return nil, err
	}
	doc, err := decodeObject(m.raw, "thing model")
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(merge(doc, p))
	if err != nil {
		return nil, fmt.Errorf("model patch: %w", err)
	}
	return Parse(raw)
}

// MergePatches gives one patch that does what old and then patch do. old may be empty.
func MergePatches(old, patch []byte) ([]byte, error) {
	p, err := decodeObject(patch, "model patch")
	if err != nil || len(old) == 0 {
		return patch, err
	}
	o, err := decodeObject(old, "model patch")
	if err != nil {
		return nil, err
	}
	return json.Marshal(mergeKeep(o, p))
}

func merge(doc, patch map[string]any) map[string]any {
	for k, v := range patch {
		if v == nil {
			delete(doc, k)
			continue
		}
		pm, ok := v.(map[string]any)
		if !ok {
			doc[k] = v
			continue
		}
		dm, ok := doc[k].(map[string]any)
		if !ok {
			dm = map[string]any{}
		}
		doc[k] = merge(dm, pm)
	}
	return doc
}

// mergeKeep merges patches: a null stays, because it removes from what is patched.
func mergeKeep(old, patch map[string]any) map[string]any {
	for k, v := range patch {
		pm, isMap := v.(map[string]any)
		om, wasMap := old[k].(map[string]any)
		if isMap && wasMap {
			old[k] = mergeKeep(om, pm)
		} else {
			old[k] = v
		}
	}
	return old
}

// CheckProperty says whether a property may be set to the value (decoded JSON). Its error is an *Error.
func (m *Model) CheckProperty(name string, v any) error {
	p := m.properties[name]
	switch {
	case p == nil:
		return &Error{Path: "/properties/" + name, Reason: "the model has no such property"}
	case p.readOnly:
		return &Error{Path: "/properties/" + name, Reason: "the property is read-only"}
	}
	return p.check(v, "/value")
}

// CheckInput says whether an action may be invoked with the input (decoded JSON; nil where none is given). Its error
// is an *Error.
func (m *Model) CheckInput(action string, v any) error {
	a := m.actions[action]
	if a == nil {
		return &Error{Path: "/actions/" + action, Reason: "the model has no such action"}
	}
	return a.check(v, "/input")
}

func (a *affordance) check(v any, base string) error {
	if a.doc == nil {
		return nil
	}
	a.once.Do(func() { a.schema, a.err = compile(a.doc) })
	if a.err != nil {
		return &Error{Path: base, Reason: "the model's schema cannot be used: " + a.err.Error()}
	}
	return check(a.schema, v, base)
}
