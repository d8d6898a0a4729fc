// Package interfaces holds the standard interfaces: what devices of one kind have in common, whatever their drivers call
// them otherwise. Each is a W3C Thing Model 1.1 with exact names, types and units (UCUM codes); what `tm:optional` names a
// driver may leave out. A manifest says which interfaces its model implements, and Check holds it to that.
package interfaces

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

//go:embed *.json
var files embed.FS

// all are the names, in the order in which they are shown.
var all = []string{"Powerable", "Switchable", "Dimmable", "Lighting", "Muteable", "Volume", "InputSelectable", "Camera", "Climate",
	"TemperatureSensor", "HumiditySensor", "PressureSensor", "LightSensor", "CO2Sensor", "PresenceSensor", "MotionSensor", "ContactSensor",
	"SmokeSensor", "LeakSensor", "Battery", "Lock", "Cover", "EnergyMeter", "Mailer"}

// Interface is one of them.
type Interface struct {
	Name, Title, Description string
	// Model is the Thing Model.
	Model json.RawMessage
}

// Names gives the names of all interfaces.
func Names() []string { return slices.Clone(all) }

// Get gives an interface by its name.
func Get(name string) (Interface, bool) {
	if !slices.Contains(all, name) {
		return Interface{}, false
	}
	text, err := files.ReadFile(strings.ToLower(name) + ".json")
	if err != nil {
		return Interface{}, false
	}
	var head struct{ Title, Description string }
	if err := json.Unmarshal(text, &head); err != nil {
		return Interface{}, false
	}
	return Interface{Name: name, Title: head.Title, Description: head.Description, Model: text}, true
}

// Error says what a model lacks of an interface.
type Error struct {
	Interface string
	// Path in the model, such as properties/power.
	Path   string
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s %s", e.Interface, e.Path, e.Reason) }

// schema is what is compared of a value's schema.
type schema struct {
	Type       string
	Unit       string
	Enum       []any
	ReadOnly   bool
	Properties map[string]schema
	Required   []string
}

// UnmarshalJSON reads what is compared, and passes over what JSON Schema allows besides, such as several types.
func (s *schema) UnmarshalJSON(text []byte) error {
	var raw struct {
		Type       json.RawMessage
		Unit       string
		Enum       []any
		ReadOnly   bool
		Properties map[string]schema
		Required   []string
	}
	if text[0] != '{' {
		return nil // true and false are schemas, too
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*s = schema{Unit: raw.Unit, Enum: raw.Enum, ReadOnly: raw.ReadOnly, Properties: raw.Properties, Required: raw.Required}
	var one string
	if json.Unmarshal(raw.Type, &one) == nil {
		s.Type = one
	}
	return nil
}

type action struct{ Input *schema }

type thing struct {
	Optional   []string `json:"tm:optional"`
	Properties map[string]schema
	Actions    map[string]action
	Events     map[string]json.RawMessage
}

// Check says whether a Thing Model has all that an interface asks for. The error is an *Error that names the first thing
// that is missing, or of the wrong type.
func Check(name string, model []byte) error {
	want, ok := Get(name)
	if !ok {
		return &Error{name, "interface", "is unknown; there are " + strings.Join(all, ", ")}
	}
	var w, m thing
	if err := json.Unmarshal(want.Model, &w); err != nil {
		return &Error{name, "interface", err.Error()}
	}
	if err := json.Unmarshal(model, &m); err != nil {
		return &Error{name, "model", err.Error()}
	}
	fail := func(path, format string, args ...any) error { return &Error{name, path, fmt.Sprintf(format, args...)} }
	for _, p := range slices.Sorted(maps.Keys(w.Properties)) {
		path, asked := "properties/"+p, w.Properties[p]
		has, there := m.Properties[p]
		switch {
		case !there && slices.Contains(w.Optional, "/"+path):
			continue
		case !there:
			return fail(path, "is missing: a %s%s is asked for", asked.Type, unit(asked.Unit))
		case !asked.ReadOnly && has.ReadOnly:
			return fail(path, "is read only, and is to be writable")
		}
		if why := differs(asked, has); why != "" {
			return fail(path, "%s", why)
		}
	}
	for _, a := range slices.Sorted(maps.Keys(w.Actions)) {
		path, asked := "actions/"+a, w.Actions[a]
		has, there := m.Actions[a]
		switch {
		case !there && slices.Contains(w.Optional, "/"+path):
			continue
		case !there:
			return fail(path, "is missing")
		}
		if at, why := takes(asked.Input, has.Input); why != "" {
			return fail(path+at, "%s", why)
		}
	}
	for _, e := range slices.Sorted(maps.Keys(w.Events)) {
		if _, there := m.Events[e]; !there && !slices.Contains(w.Optional, "/events/"+e) {
			return fail("events/"+e, "is missing")
		}
	}
	return nil
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " in " + u
}

// differs says in what a value is not what the interface asks for, or "". A driver may have fewer words of an enumeration,
// and an integer where a number is asked for.
func differs(asked, has schema) string {
	switch {
	case asked.Type != has.Type && !(asked.Type == "number" && has.Type == "integer"):
		return fmt.Sprintf("is of type %s, %s is asked for", orNone(has.Type), asked.Type)
	case asked.Unit != "" && asked.Unit != has.Unit:
		return fmt.Sprintf("is in %s, %s is asked for", orNone(has.Unit), asked.Unit)
	case len(asked.Enum) > 0 && len(has.Enum) == 0:
		return fmt.Sprintf("has no list of values; some of %v are asked for", asked.Enum)
	}
	for _, v := range has.Enum {
		if len(asked.Enum) > 0 && !slices.Contains(asked.Enum, v) {
			return fmt.Sprintf("may be %v, which is not one of %v", v, asked.Enum)
		}
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// takes says why an action would not take the interface's input, and where, or "".
func takes(asked, has *schema) (at, why string) {
	switch {
	case asked == nil && has != nil && len(has.Required) > 0:
		return "/input", fmt.Sprintf("needs %s, and is to need nothing", strings.Join(has.Required, ", "))
	case asked == nil:
		return "", ""
	case has == nil:
		return "/input", "is missing"
	case asked.Type != has.Type:
		return "/input", differs(*asked, *has)
	}
	for _, p := range slices.Sorted(maps.Keys(asked.Properties)) {
		there, ok := has.Properties[p]
		switch {
		case !ok && !slices.Contains(asked.Required, p) && len(asked.Required) > 0:
			continue // what need not be given may be passed over, but not refused
		case !ok:
			return "/input/" + p, fmt.Sprintf("is missing: a %s%s is asked for", asked.Properties[p].Type, unit(asked.Properties[p].Unit))
		}
		if why := differs(asked.Properties[p], there); why != "" {
			return "/input/" + p, why
		}
	}
	for _, p := range has.Required {
		if !slices.Contains(asked.Required, p) {
			return "/input/" + p, "is needed by the driver, and not by the interface"
		}
	}
	return "", ""
}
