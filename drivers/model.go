package drivers

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxAffordances bounds the properties, the actions and the events of a model, each.
const maxAffordances = 1000

var affordanceName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,63}$`)

// Model is the compiled view of a Thing Model and its settings' schema. It is immutable and safe for concurrent use.
type Model struct {
	thing    json.RawMessage
	settings json.RawMessage

	properties    map[string]*Property
	actions       map[string]*Action
	events        map[string]*EventInfo
	propertyNames []string
	actionNames   []string
	eventNames    []string

	settingsSchema *jsonschema.Schema
	settingsTree   *settingNode
	secrets        []string
}

// Property of a model.
type Property struct {
	Name, Title, Description string
	// Type is boolean, integer, number, string, object or array.
	Type string
	// Unit as the model writes it; may be empty.
	Unit     string
	Writable bool
	// Schema is the property's own part of the model.
	Schema json.RawMessage
	// Queue is how its commands queue; nil: as by default.
	Queue  *Queue
	schema *jsonschema.Schema
}

// Action of a model. Input and Output are schemas, nil where the model gives none.
type Action struct {
	Name, Title, Description string
	Input, Output            json.RawMessage
	// Safe actions change nothing; idempotent ones may be tried again.
	Safe, Idempotent bool
	// Queue is how its commands queue; nil: as by default.
	Queue         *Queue
	input, output *jsonschema.Schema
	// object: the input is an object and nothing else.
	object bool
}

// EventInfo is an event of a model. Data is its schema, or nil.
type EventInfo struct {
	Name, Title, Description string
	Data                     json.RawMessage
	// types is what Data says of types.
	types *jsonschema.Schema
}

type thingText struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Actions    map[string]json.RawMessage `json:"actions"`
	Events     map[string]json.RawMessage `json:"events"`
}

// NewModel compiles the model and the settings' schema of a manifest. Errors are *ManifestError.
func NewModel(m *Manifest) (*Model, error) {
	model := &Model{thing: m.Model, settings: m.Settings}
	if err := model.compileSettings(); err != nil {
		return nil, err
	}
	if err := model.compileThing(); err != nil {
		return nil, err
	}
	return model, nil
}

// Patch returns the model with a JSON merge patch applied to its Thing Model, as `describe` gives it. The settings'
// schema stays. Compiling takes milliseconds: keep the result.
func (m *Model) Patch(patch []byte) (*Model, error) {
	merged, err := MergePatch(m.thing, patch)
	if err != nil {
		return nil, err
	}
	if len(merged) > MaxManifest {
		return nil, bad("model", "%d bytes, more than %d", len(merged), MaxManifest)
	}
	next := *m
	next.thing = merged
	if err := next.compileThing(); err != nil {
		return nil, err
	}
	return &next, nil
}

// JSON is the Thing Model's text. It is not to be changed.
func (m *Model) JSON() json.RawMessage { return m.thing }

// SettingsSchema is the settings' schema, or nil.
func (m *Model) SettingsSchema() json.RawMessage { return m.settings }

// Properties, Actions and Events return the names, sorted. They are not to be changed.
func (m *Model) Properties() []string { return m.propertyNames }

// Actions returns the names of the actions, sorted.
func (m *Model) Actions() []string { return m.actionNames }

// Events returns the names of the events, sorted.
func (m *Model) Events() []string { return m.eventNames }

// Property returns the property of that name, or nil.
func (m *Model) Property(name string) *Property { return m.properties[name] }

// Action returns the action of that name, or nil.
func (m *Model) Action(name string) *Action { return m.actions[name] }

// Event returns the event of that name, or nil.
func (m *Model) Event(name string) *EventInfo { return m.events[name] }

// Secrets are the names of the settings that are never shown: `"writeOnly": true`. Nested ones are joined by a slash.
func (m *Model) Secrets() []string { return m.secrets }

func (m *Model) compileThing() error {
	var text thingText
	if err := json.Unmarshal(m.thing, &text); err != nil {
		return bad("model", "is no Thing Model: %s", err)
	}
	for name, n := range map[string]int{"properties": len(text.Properties), "actions": len(text.Actions), "events": len(text.Events)} {
		if n > maxAffordances {
			return bad("model/"+name, "there are %d, more than %d", n, maxAffordances)
		}
	}
	m.properties = make(map[string]*Property, len(text.Properties))
	m.actions = make(map[string]*Action, len(text.Actions))
	m.events = make(map[string]*EventInfo, len(text.Events))
	for name, raw := range text.Properties {
		if err := m.addProperty(name, raw); err != nil {
			return err
		}
	}
	for name, raw := range text.Actions {
		if err := m.addAction(name, raw); err != nil {
			return err
		}
	}
	for name, raw := range text.Events {
		if err := m.addEvent(name, raw); err != nil {
			return err
		}
	}
	m.propertyNames, m.actionNames, m.eventNames = names(m.properties), names(m.actions), names(m.events)
	return nil
}

func names[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func checkAffordance(path, name string) error {
	if !affordanceName.MatchString(name) {
		return bad(path, "the name is not of [A-Za-z_][A-Za-z0-9_.-]{0,63}")
	}
	return nil
}

var propertyTypes = []string{"boolean", "integer", "number", "string", "object", "array"}

func (m *Model) addProperty(name string, raw json.RawMessage) error {
	path := "model/properties/" + name
	if err := checkAffordance(path, name); err != nil {
		return err
	}
	var text struct {
		Title, Description, Type, Unit string
		ReadOnly                       bool
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return bad(path, "%s", err)
	}
	if !slices.Contains(propertyTypes, text.Type) {
		return bad(path+"/type", "%q is not one of boolean, integer, number, string, object, array", text.Type)
	}
	schema, err := compileData(path, raw)
	if err != nil {
		return err
	}
	queue, err := queueOf(path, raw)
	if err != nil {
		return err
	}
	m.properties[name] = &Property{Name: name, Title: text.Title, Description: text.Description, Type: text.Type,
		Unit: text.Unit, Writable: !text.ReadOnly, Schema: raw, Queue: queue, schema: schema}
	return nil
}

func (m *Model) addAction(name string, raw json.RawMessage) error {
	path := "model/actions/" + name
	if err := checkAffordance(path, name); err != nil {
		return err
	}
	var text struct {
		Title, Description string
		Input, Output      json.RawMessage
		Safe, Idempotent   bool
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return bad(path, "%s", err)
	}
	a := &Action{Name: name, Title: text.Title, Description: text.Description, Input: text.Input, Output: text.Output,
		Safe: text.Safe, Idempotent: text.Idempotent}
	var err error
	if a.Queue, err = queueOf(path, raw); err != nil {
		return err
	}
	if len(text.Input) > 0 {
		if a.input, err = compileData(path+"/input", text.Input); err != nil {
			return err
		}
		a.object = a.input.Types != nil && slices.Equal(a.input.Types.ToStrings(), []string{"object"})
	}
	if len(text.Output) > 0 {
		if a.output, err = compileData(path+"/output", text.Output); err != nil {
			return err
		}
	}
	m.actions[name] = a
	return nil
}

func (m *Model) addEvent(name string, raw json.RawMessage) error {
	path := "model/events/" + name
	if err := checkAffordance(path, name); err != nil {
		return err
	}
	var text struct {
		Title, Description string
		Data               json.RawMessage
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return bad(path, "%s", err)
	}
	e := &EventInfo{Name: name, Title: text.Title, Description: text.Description, Data: text.Data}
	if len(text.Data) > 0 {
		if _, err := compileData(path+"/data", text.Data); err != nil {
			return err
		}
		e.types = compileTypes(path+"/data", text.Data)
	}
	m.events[name] = e
	return nil
}

// ValidateAction checks an action's input, JSON or nothing. Where the input is an object, nothing and null count as an
// object without members. Errors: ErrUnknown, which tells of similar names and leaves the wrong one to the caller;
// *SchemaError.
func (m *Model) ValidateAction(name string, input []byte) error {
	a := m.actions[name]
	if a == nil {
		return unknown(name, m.actionNames)
	}
	subject := "action " + name
	value, err := decodeValue(subject, input)
	if err != nil {
		return err
	}
	if a.input == nil {
		if value != nil {
			if obj, ok := value.(map[string]any); !ok || len(obj) > 0 {
				return &SchemaError{Subject: subject, Reason: "the action takes no input"}
			}
		}
		return nil
	}
	if value == nil && a.object {
		value = map[string]any{}
	}
	return checkValue(subject, a.input, value)
}

// ErrReadOnly is the error of writing a property that is not writable.
var ErrReadOnly = errors.New("read only")

// ValidateProperty checks a value that somebody wants a property to have. Errors: ErrUnknown and ErrReadOnly, which
// leave the name to the caller; *SchemaError.
func (m *Model) ValidateProperty(name string, value []byte) error {
	p := m.properties[name]
	if p == nil {
		return unknown(name, m.propertyNames)
	}
	if !p.Writable {
		return ErrReadOnly
	}
	subject := "property " + name
	decoded, err := decodeValue(subject, value)
	if err != nil {
		return err
	}
	if err := checkValue(subject, p.schema, decoded); err != nil {
		return err
	}
	if number, ok := decoded.(json.Number); ok && p.Type == "integer" {
		if why := p.Misfit([]byte(number)); why != "" {
			return &SchemaError{Subject: subject, Reason: why}
		}
	}
	return nil
}
