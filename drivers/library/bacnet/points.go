package main

import (
	"slices"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Point is a value of the device that becomes a property of the twin.
type Point struct {
	Name     string `json:"name"`
	Title    string `json:"title"`
	Object   string `json:"object"`
	Instance int    `json:"instance"`
	Property string `json:"property"`
	Index    *int   `json:"index"`
	Type     string `json:"type"`
	As       string `json:"as"`
	Unit     string `json:"unit"`
	Writable bool   `json:"writable"`
	Priority int    `json:"priority"`
	COV      string `json:"cov"`
}

// placeOf reads where a property is; present-value where none is said.
func placeOf(object string, instance int, property string, index *int) (p place, problem string) {
	if property == "" {
		property = "present-value"
	}
	p.instance, p.index = uint32(instance), index
	var ok bool
	if p.object, ok = find(objects, object, 1023); !ok {
		return p, "no object type " + object + " is known; say its number"
	}
	if p.property, ok = find(properties, property, maxInstance); !ok {
		return p, "no property " + property + " is known; say its number"
	}
	return p, ""
}

func (p *Point) place() (place, string) { return placeOf(p.Object, p.Instance, p.Property, p.Index) }

// as is how it is written, kind its JSON type.
func (p *Point) as(at place) string {
	if p.As != "" {
		return p.As
	}
	if as := usual(at.object, at.property); as != "" {
		return as
	}
	return map[string]string{"integer": "unsigned", "boolean": "boolean", "string": "text"}[p.Type]
}

func (p *Point) kind(at place) string {
	if p.Type != "" {
		return p.Type
	}
	return kindOf(at.object, at.property, p.as(at))
}

// told says whether a subscription tells this value.
func (p *Point) told(at place) bool {
	return p.COV != "" && p.Index == nil && (at.property == propertyPresentValue || at.property == propertyStatusFlags)
}

// own are the properties that all devices have, by the device's property.
var own = []struct {
	property uint32
	name     string
}{{75, "device_id"}, {77, "device_name"}, {121, "vendor_name"}, {70, "model_name"}, {propertySystemStatus, "system_status"}}

// usable says whether a point of the settings can be used, and which problem there is.
func usable(all []Point, i int) string {
	p := &all[i]
	at, problem := p.place()
	switch {
	case problem != "":
		return problem
	case slices.ContainsFunc(all[:i], func(o Point) bool { return o.Name == p.Name }):
		return "the name is taken"
	case p.Writable && p.as(at) == "":
		return "it is not known how " + at.String() + " is written; say it by as"
	case p.COV != "" && !p.told(at):
		return "only present-value and status-flags can be subscribed to"
	}
	for _, o := range own {
		if o.name == p.Name {
			return "the name is taken"
		}
	}
	return ""
}

// describe tells the model of the points, and that of others no more.
func describe(t *Twin) error {
	all, m := t.Settings().Points, t.Memory()
	patch := map[string]any{}
	for _, name := range m.Described {
		patch[name] = wire.Value("null")
	}
	m.Described = nil
	for i := range all {
		p := &all[i]
		if problem := usable(all, i); problem != "" {
			t.Log("error", "point "+p.Name+" is left out: "+problem)
			continue
		}
		at, _ := p.place()
		schema := map[string]any{"type": p.kind(at), "readOnly": !p.Writable}
		if p.Title != "" {
			schema["title"] = p.Title
		}
		if p.Unit != "" {
			schema["unit"] = p.Unit
		}
		patch[p.Name] = schema
		m.Described = append(m.Described, p.Name)
	}
	if len(patch) == 0 {
		return nil
	}
	return t.Describe(map[string]any{"properties": patch})
}

func pointCalled(t *Twin, name string) (int, error) {
	for i, p := range t.Settings().Points {
		if p.Name == name && usable(t.Settings().Points, i) == "" {
			if !p.Writable {
				return 0, &twin.Error{Code: codeInput, Message: name + " is not writable"}
			}
			return i, nil
		}
	}
	return 0, &twin.Error{Code: codeInput, Message: "there is no point " + name}
}

// report tells a point's data. faulty: the device itself says that they are wrong.
func report(t *Twin, i int, all []value, faulty bool) {
	p := &t.Settings().Points[i]
	at, problem := p.place()
	if problem != "" || !slices.Contains(t.Memory().Described, p.Name) {
		return
	}
	if len(all) != 1 {
		t.Report(p.Name, nil)
		failed(t, "r"+p.Name, p.Name+" is a list; read its elements by index")
		return
	}
	v := all[0].fit(p.kind(at))
	if v == nil && all[0].tag != tagNull {
		failed(t, "t"+p.Name, p.Name+" is no "+p.kind(at))
	}
	quality := twin.Good
	if faulty {
		quality = twin.Bad
	}
	t.ReportAs(p.Name, v, quality, zeroTime)
}

// stale marks what was known.
func stale(t *Twin) {
	for _, name := range t.Memory().Described {
		if v := t.Property(name); v.Exists() {
			t.ReportAs(name, v, twin.Stale, zeroTime)
		}
	}
}

// failed warns once of something.
func failed(t *Twin, what, text string) {
	if m := t.Memory(); !slices.Contains(m.Failed, what) {
		m.Failed = append(m.Failed, what)
		t.Log("warn", text)
	}
}
