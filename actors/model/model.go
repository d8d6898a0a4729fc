// Package model reads the models of twins without a driver: W3C Thing Models 1.1 whose properties say, in terms of the
// prefix `pollux:`, where in a message they are found and what is done with them. It checks such a document, and makes
// readings of messages. It knows no twins: what came before a message, and what becomes of a reading, is the caller's.
package model

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/units"
)

// MaxBytes bounds a Thing Model's text.
const MaxBytes = 256 << 10

// context and kind mark a Thing Model, see https://www.w3.org/TR/wot-thing-description11/#thing-model.
const (
	context = "https://www.w3.org/2022/wot/td/v1.1"
	kind    = "tm:ThingModel"
)

// Error says what is wrong with a Thing Model, and where.
type Error struct {
	// Path leads to the place, such as /properties/temperature/unit.
	Path, Reason string
}

func (e *Error) Error() string { return e.Path + ": " + e.Reason }

func bad(path, format string, args ...any) error {
	return &Error{Path: path, Reason: fmt.Sprintf(format, args...)}
}

// Model is a Thing Model, compiled. It is immutable and safe for concurrent use.
type Model struct {
	// Thing is what desired values and actions are checked against.
	*drivers.Model
	Title, Description string
	// Staling: a property goes stale by time.
	Staling bool
	// Derived are the properties that are computed, by name.
	Derived []*Property

	properties map[string]*Property
	root       *node
	slots      int
	time       int // the slot of a message's time; 0: it has none
	refuse     bool
}

// Property is what a model says of one property beyond its schema.
type Property struct {
	*drivers.Property
	// Deadband in the property's unit: a value that differs by no more from the one that is kept is not kept; negative: none.
	Deadband float64
	// Spacing is the least time between two samples in history; 0: none.
	Spacing time.Duration
	// FlapChanges in FlapWindow are a property that flaps; 0: never.
	FlapChanges int
	FlapWindow  time.Duration
	// Stale is after how long without a value it is stale; 0: never.
	Stale time.Duration
	// Virtual: what is asked of it is what it reports.
	Virtual bool
	// Derived is the expression that it is computed by; empty: it is none that is.
	Derived string

	path       []string // of its value in messages
	unit, from units.Unit
	converts   bool // from is another unit than unit
	measures   bool // unit is set
	bounded    bool // the schema says more than the type
	// slots of what a message says beside the value; 0: nothing.
	time, unitAt, quality int
}

// document is the part of a Thing Model that is read here.
type document struct {
	Context     json.RawMessage            `json:"@context"`
	Type        json.RawMessage            `json:"@type"`
	Title       string                     `json:"title"`
	Description string                     `json:"description"`
	Properties  map[string]json.RawMessage `json:"properties"`
	Links       []struct {
		Rel string `json:"rel"`
	} `json:"links"`
	Time    string `json:"pollux:time"`
	Unknown string `json:"pollux:unknown"`
}

// terms of one property.
type terms struct {
	Ref      string   `json:"tm:ref"`
	Unit     string   `json:"unit"`
	Type     string   `json:"type"`
	Path     *string  `json:"pollux:path"`
	From     string   `json:"pollux:unit"`
	UnitPath string   `json:"pollux:unitPath"`
	Time     string   `json:"pollux:time"`
	Quality  string   `json:"pollux:quality"`
	Deadband *float64 `json:"pollux:deadband"`
	Rate     *float64 `json:"pollux:rate"`
	Flap     *struct {
		Changes int     `json:"changes"`
		Seconds float64 `json:"seconds"`
	} `json:"pollux:flap"`
	Stale   *float64 `json:"pollux:stale"`
	Virtual bool     `json:"pollux:virtual"`
	Derived string   `json:"pollux:derived"`
}

var (
	thingTerms    = []string{"pollux:time", "pollux:unknown"}
	propertyTerms = []string{"pollux:path", "pollux:unit", "pollux:unitPath", "pollux:time", "pollux:quality", "pollux:deadband",
		"pollux:rate", "pollux:flap", "pollux:stale", "pollux:virtual", "pollux:derived"}
)

// Parse checks a Thing Model and compiles it. Errors are *Error.
func Parse(text []byte) (*Model, error) {
	if len(text) > MaxBytes {
		return nil, bad("/", "%d bytes, %d are allowed", len(text), MaxBytes)
	}
	var doc document
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, mistyped("/", err)
	}
	if err := doc.check(text); err != nil {
		return nil, err
	}
	m := &Model{Title: doc.Title, Description: doc.Description, properties: make(map[string]*Property, len(doc.Properties)),
		root: &node{}, refuse: doc.Unknown == "refuse"}
	var err error
	if m.Model, err = drivers.NewModel(&drivers.Manifest{Model: text}); err != nil {
		return nil, placed(err)
	}
	if m.time, err = m.slot("/pollux:time", doc.Time); err != nil {
		return nil, err
	}
	for _, name := range m.Properties() {
		if err := m.add(name, doc.Properties[name]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// placed makes a manifest's error one of the Thing Model alone.
func placed(err error) error {
	m, ok := err.(*drivers.ManifestError) //nolint:errorlint // NewModel gives it bare
	if !ok {
		return bad("/", "%s", err)
	}
	return bad(strings.TrimPrefix(m.Path, "model"), "%s", m.Reason)
}

func (d *document) check(text []byte) error {
	if !holds(d.Context, context) {
		return bad("/@context", "%q is not there: a Thing Model 1.1 is wanted", context)
	}
	if !holds(d.Type, kind) {
		return bad("/@type", "%q is not there: a Thing Model is wanted, not a Thing Description", kind)
	}
	if d.Unknown != "" && d.Unknown != "ignore" && d.Unknown != "refuse" {
		return bad("/pollux:unknown", "%q is not one of ignore, refuse", d.Unknown)
	}
	for i, l := range d.Links {
		if l.Rel == "tm:extends" || l.Rel == "tm:submodel" {
			return bad(fmt.Sprintf("/links/%d", i), "%s is not followed: write the properties, actions and events into the model itself", l.Rel)
		}
	}
	return onlyTerms("", text, thingTerms)
}

// onlyTerms refuses terms of the prefix pollux that there are not: a misspelt one would do nothing, silently.
func onlyTerms(path string, text []byte, known []string) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return bad(path, "is no object")
	}
	for name := range all {
		if strings.HasPrefix(name, "pollux:") && !slices.Contains(known, name) {
			return bad(path+"/"+name, "is unknown here; there are %s", strings.Join(known, ", "))
		}
	}
	return nil
}

// holds says whether a JSON text or list of texts has that one.
func holds(raw json.RawMessage, want string) bool {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return one == want
	}
	var list []any
	return json.Unmarshal(raw, &list) == nil && slices.Contains(list, any(want))
}

// add takes one property in.
func (m *Model) add(name string, raw json.RawMessage) error {
	base := "/properties/" + name
	var x terms
	if err := json.Unmarshal(raw, &x); err != nil {
		return mistyped(base, err)
	}
	if x.Ref != "" {
		return bad(base+"/tm:ref", "is not followed: write the property out")
	}
	if err := onlyTerms(base, raw, propertyTerms); err != nil {
		return err
	}
	p := &Property{Property: m.Property(name), Deadband: -1, Virtual: x.Virtual, Derived: x.Derived, bounded: bounds(raw)}
	if x.Virtual && !p.Writable {
		return bad(base+"/pollux:virtual", "the property is read only, so nobody can ask for a value")
	}
	if err := p.units(base, &x); err != nil {
		return err
	}
	if err := p.filters(base, &x); err != nil {
		return err
	}
	for _, s := range []struct {
		name, path string
		to         *int
	}{{"time", x.Time, &p.time}, {"unitPath", x.UnitPath, &p.unitAt}, {"quality", x.Quality, &p.quality}} {
		var err error
		if *s.to, err = m.slot(base+"/pollux:"+s.name, s.path); err != nil {
			return err
		}
	}
	steps := []string{name} // a name is one step, dots and all
	if x.Path != nil {
		var err error
		if steps, err = parsePath(base+"/pollux:path", *x.Path); err != nil {
			return err
		}
	}
	m.properties[name] = p
	if p.Derived != "" {
		return m.derived(base, p, &x)
	}
	p.path = steps
	n := m.root.at(steps)
	n.properties = append(n.properties, p)
	m.Staling = m.Staling || p.Stale > 0
	return nil
}

// derived checks a property that is computed: nothing of a message, and of nobody who asks, goes into it.
func (m *Model) derived(base string, p *Property, x *terms) error {
	switch {
	case p.Writable:
		return bad(base+"/pollux:derived", `what is computed cannot be asked for: the property is to be "readOnly": true`)
	case x.Path != nil || x.From != "" || x.UnitPath != "" || x.Time != "" || x.Quality != "":
		return bad(base+"/pollux:derived", "what is computed is in no message: pollux:path, unit, unitPath, time and quality do not go with it")
	case x.Deadband != nil || x.Rate != nil || x.Flap != nil || x.Stale != nil:
		return bad(base+"/pollux:derived", "pollux:deadband, rate, flap and stale are for what comes from devices")
	}
	m.Derived = append(m.Derived, p)
	return nil
}

// units reads the unit of the model, and that of the messages.
func (p *Property) units(base string, x *terms) error {
	var err error
	if x.Unit != "" {
		if p.unit, err = units.Parse(x.Unit); err != nil {
			return unknownUnit(base+"/unit", x.Unit)
		}
		p.measures = true
	}
	if x.From == "" && x.UnitPath == "" {
		return nil
	}
	numeric := p.Type == "number" || p.Type == "integer"
	switch {
	case !p.measures:
		return bad(base+"/unit", "is missing: a message's unit is converted into it")
	case !numeric:
		return bad(base+"/pollux:unit", "a %s has no unit", p.Type)
	}
	p.from = p.unit
	if x.From == "" {
		return nil
	}
	if p.from, err = units.Parse(x.From); err != nil {
		return unknownUnit(base+"/pollux:unit", x.From)
	}
	if !p.from.Same(p.unit) {
		return bad(base+"/pollux:unit", "%s does not measure the same as the property's unit %s", x.From, x.Unit)
	}
	p.converts = true
	return nil
}

// maxSpan bounds the times in a model.
const maxSpan = 366 * 24 * time.Hour

// filters reads what is done with values before they are kept.
func (p *Property) filters(base string, x *terms) error {
	if x.Deadband != nil {
		if p.Type != "number" && p.Type != "integer" || *x.Deadband < 0 || math.IsInf(*x.Deadband, 0) {
			return bad(base+"/pollux:deadband", "a number from 0 is wanted, of a property that is a number")
		}
		p.Deadband = *x.Deadband
	}
	var err error
	if x.Rate != nil {
		if *x.Rate <= 0 {
			return bad(base+"/pollux:rate", "samples per second are wanted, more than 0")
		}
		if p.Spacing, err = span(base+"/pollux:rate", 1 / *x.Rate); err != nil {
			return err
		}
	}
	if x.Stale != nil {
		if p.Stale, err = span(base+"/pollux:stale", *x.Stale); err != nil {
			return err
		}
	}
	if x.Flap != nil {
		if x.Flap.Changes < 2 || x.Flap.Changes > 100 {
			return bad(base+"/pollux:flap/changes", "2 to 100 are wanted")
		}
		p.FlapChanges = x.Flap.Changes
		p.FlapWindow, err = span(base+"/pollux:flap/seconds", x.Flap.Seconds)
	}
	return err
}

// span makes a time of seconds.
func span(path string, seconds float64) (time.Duration, error) {
	if !(seconds >= 0.001) || seconds > maxSpan.Seconds() {
		return 0, bad(path, "%v s is not between a millisecond and a year", seconds)
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// bounds says whether a property's schema says more than its type.
func bounds(raw json.RawMessage) bool {
	var all map[string]json.RawMessage
	_ = json.Unmarshal(raw, &all) // it was read before
	for _, word := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const", "oneOf", "anyOf",
		"allOf", "not", "minLength", "maxLength", "pattern", "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "properties",
		"required", "additionalProperties"} {
		if _, ok := all[word]; ok {
			return true
		}
	}
	return false
}

func unknownUnit(path, unit string) error {
	return bad(path, "%s is no unit of UCUM or QUDT that is known here", quoted(unit))
}

func quoted(s string) string { return fmt.Sprintf("%.70q", s) }

// Of gives what the model says of a property, or nil.
func (m *Model) Of(name string) *Property { return m.properties[name] }

// Sent says how devices send a property: where in a message, and how a value gets into their unit; convert is nil where it is in that
// already. ok is false where no message has it.
func (m *Model) Sent(name string) (path []string, convert func(float64) float64, ok bool) {
	p := m.properties[name]
	if p == nil || p.path == nil {
		return nil, nil, false
	}
	if p.converts {
		convert = func(x float64) float64 {
			y, err := units.Convert(x, p.unit, p.from)
			if err != nil {
				return x // it is of the same kind: Parse has seen to that
			}
			return rounded(y)
		}
	}
	return p.path, convert, true
}
