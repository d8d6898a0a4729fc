package main

import (
	"math"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Kinds of entities: the types of the messages that list them.
const (
	binarySensor = 12
	cover        = 13
	fan          = 14
	light        = 15
	sensor       = 16
	onOff        = 17
	textSensor   = 18
	climate      = 46
	number       = 49
	choice       = 52
	button       = 61
	text         = 97
)

// What an entity can do besides; each brings a property.
const (
	hasBrightness = 1 << iota
	hasTemperature
	hasColor
	hasEffects
	hasTilt
	hasSpeed
	hasOscillation
	hasDirection
	hasPresets
	hasCurrent
	hasRange
	hasActivity
)

const (
	// maxEntities and maxProperties of a device; what it has beyond is left out, and said in the log.
	maxEntities   = 200
	maxProperties = 400
	maxName       = 48
)

// Entity is something that a device has.
type Entity struct {
	Key  uint32 `json:"key"`
	Kind int    `json:"kind"`
	// Name of its property; those of its parts begin with it.
	Name string `json:"name"`
	Can  int    `json:"can,omitempty"`
}

// trait is a part of entities of a kind, that all of them have or those that can.
type trait struct {
	kind, can int
	suffix    string
}

var traits = []trait{
	{binarySensor, 0, ""}, {sensor, 0, ""}, {onOff, 0, ""}, {textSensor, 0, ""}, {number, 0, ""}, {choice, 0, ""}, {text, 0, ""},
	{cover, 0, ""}, {cover, 0, "_state"}, {cover, hasTilt, "_tilt"},
	{fan, 0, ""}, {fan, hasSpeed, "_speed"}, {fan, hasOscillation, "_oscillating"}, {fan, hasDirection, "_direction"}, {fan, hasPresets, "_preset"},
	{light, 0, ""}, {light, hasBrightness, "_brightness"}, {light, hasTemperature, "_color_temperature"}, {light, hasColor, "_color"},
	{light, hasEffects, "_effect"},
	{climate, 0, "_mode"}, {climate, hasCurrent, "_temperature"}, {climate, hasRange, "_setpoint_low"}, {climate, hasRange, "_setpoint_high"},
	{climate, hasActivity, "_activity"},
}

// parts are the ends of the names of an entity's properties.
func (e Entity) parts() (all []string) {
	for _, t := range traits {
		if t.kind == e.Kind && e.Can&t.can == t.can {
			all = append(all, t.suffix)
		}
	}
	if e.Kind == climate && e.Can&hasRange == 0 {
		all = append(all, "_setpoint")
	}
	return all
}

// message begins a command to an entity.
func (e Entity) message() message { return message{}.fixed(1, e.Key) }

// owner finds the entity that a property is of.
func owner(all []Entity, property string) (e Entity, ok bool) {
	for _, e := range all {
		if rest, begins := strings.CutPrefix(property, e.Name); begins {
			for _, p := range e.parts() {
				if p == rest {
					return e, true
				}
			}
		}
	}
	return Entity{}, false
}

// find is an entity of a kind by its name.
func find(t *Twin, name string, kind int) (Entity, error) {
	for _, e := range t.Memory().Entities {
		if e.Name == name && e.Kind == kind {
			return e, nil
		}
	}
	what := map[int]string{button: "button", cover: "cover"}[kind]
	return Entity{}, &twin.Error{Code: 2, Message: "the device has no " + what + " " + strconv.Quote(name) + names(t.Memory().Entities, kind)}
}

func names(all []Entity, kind int) (list string) {
	for _, e := range all {
		if e.Kind == kind {
			if list += ", "; list == ", " {
				list = "; it has "
			}
			list += e.Name
		}
	}
	return list
}

// list takes a message that tells of an entity, if it is one.
func list(t *Twin, kind int, f fields, patch *patch) bool {
	describe, ok := describers[kind]
	if !ok {
		return false
	}
	m := t.Memory()
	e := Entity{Key: uint32(f.uint(2)), Kind: kind}
	e.Name = free(m.Listed, kind, slug(f.text(1), f.text(3)))
	properties := 0
	for _, x := range m.Listed {
		if x.Key == e.Key && x.Kind == kind {
			return true // it told so before
		}
		properties += len(x.parts())
	}
	if len(m.Listed) >= maxEntities || properties+8 > maxProperties {
		t.Log("warn", "left out, because the device has too much: "+e.Name)
		return true
	}
	describe(&e, f, func(suffix, schema string) { patch.add(e.Name+suffix, title(f, e, suffix), schema) })
	m.Listed = append(m.Listed, e)
	return true
}

// title of a property, for people.
func title(f fields, e Entity, suffix string) string {
	name := f.text(3)
	if name == "" {
		name = e.Name
	}
	if suffix == "" {
		return name
	}
	return name + ":" + strings.ReplaceAll(suffix, "_", " ")
}

// slug makes a property's name of the device's name for it, or of the one for people.
func slug(id, title string) string {
	if id == "" {
		id = title
	}
	b := []byte(strings.ToLower(id))
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	if len(b) > maxName {
		b = b[:maxName]
	}
	if len(b) == 0 || b[0] >= '0' && b[0] <= '9' {
		b = append([]byte("e_"), b...)
	}
	return string(b)
}

// free is the name where nothing else has it, or one made of it. Entities of two kinds may have one name in the firmware.
func free(all []Entity, kind int, name string) string {
	used := func(name string) bool {
		if strings.HasPrefix(name, "device_") {
			return true
		}
		for _, e := range all {
			if e.Name == name || strings.HasPrefix(name, e.Name+"_") && owned(all, name) || strings.HasPrefix(e.Name, name+"_") {
				return true
			}
		}
		return false
	}
	if !used(name) {
		return name
	}
	ending := map[int]string{binarySensor: "binary", cover: "cover", fan: "fan", light: "light", sensor: "sensor", onOff: "switch", textSensor: "says",
		climate: "climate", number: "number", choice: "select", button: "button", text: "text"}[kind]
	// In front of what begins with device_ stands the kind: those names are the driver's.
	if strings.HasPrefix(name, "device_") {
		name = ending + "_" + name
	} else {
		name += "_" + ending
	}
	for n, base := 2, name; used(name); n++ {
		name = base + "_" + strconv.Itoa(n)
	}
	return name
}

func owned(all []Entity, property string) bool {
	_, ok := owner(all, property)
	return ok
}

const (
	boolean   = `"type":"boolean"`
	readOnly  = `,"readOnly":true`
	percents  = `"type":"integer","minimum":0,"maximum":100,"unit":"%"`
	degrees   = `"type":"number","unit":"Cel"`
	tellsOnly = `"type":"string"` + readOnly
)

// describers say what an entity of a kind can do, and tell the schema of each of its properties.
var describers = map[int]func(e *Entity, f fields, tell func(suffix, schema string)){
	binarySensor: func(_ *Entity, _ fields, tell func(string, string)) { tell("", boolean+readOnly) },
	onOff:        func(_ *Entity, _ fields, tell func(string, string)) { tell("", boolean) },
	textSensor:   func(_ *Entity, _ fields, tell func(string, string)) { tell("", tellsOnly) },
	button:       func(*Entity, fields, func(string, string)) {},
	sensor: func(_ *Entity, f fields, tell func(string, string)) {
		tell("", `"type":"number"`+unit(f.text(6))+readOnly)
	},
	number: func(_ *Entity, f fields, tell func(string, string)) {
		tell("", `"type":"number"`+bounds(f.float(6), f.float(7))+unit(f.text(11)))
	},
	choice: func(_ *Entity, f fields, tell func(string, string)) { tell("", oneOf(f.texts(6))) },
	text: func(_ *Entity, f fields, tell func(string, string)) {
		schema := `"type":"string"`
		if most := f.uint(9); most > 0 && most < 1<<16 {
			schema += `,"maxLength":` + strconv.FormatUint(most, 10)
		}
		tell("", schema)
	},
	cover:   describeCover,
	fan:     describeFan,
	light:   describeLight,
	climate: describeClimate,
}

func describeCover(e *Entity, f fields, tell func(suffix, schema string)) {
	tell("", percents)
	tell("_state", `"type":"string","enum":["idle","opening","closing"]`+readOnly)
	if f.bool(7) {
		e.Can |= hasTilt
		tell("_tilt", percents)
	}
}

func describeFan(e *Entity, f fields, tell func(suffix, schema string)) {
	tell("", boolean)
	if f.bool(6) {
		e.Can |= hasSpeed
		most := min(max(f.uint(8), 1), 1000)
		tell("_speed", `"type":"integer","minimum":0,"maximum":`+strconv.FormatUint(most, 10))
	}
	if f.bool(5) {
		e.Can |= hasOscillation
		tell("_oscillating", boolean)
	}
	if f.bool(7) {
		e.Can |= hasDirection
		tell("_direction", oneOf(directions))
	}
	if presets := f.texts(12); len(presets) > 0 {
		e.Can |= hasPresets
		tell("_preset", oneOf(presets))
	}
}

// describeLight reads the color modes, in which each bit is something that the light can do: 2 brightness, 8 the color of its
// white, 16 two whites, 32 red, green and blue. Older firmware says it in fields of their own.
func describeLight(e *Entity, f fields, tell func(suffix, schema string)) {
	var can uint64
	for _, mode := range f.uints(12) {
		can |= mode
	}
	tell("", boolean)
	if can&2 != 0 || f.bool(5) {
		e.Can |= hasBrightness
		tell("_brightness", percents)
	}
	if can&(8|16) != 0 || f.bool(8) {
		e.Can |= hasTemperature
		schema := `"type":"integer","unit":"K"`
		if low, high := f.float(9), f.float(10); low > 0 && high > low {
			schema += bounds(math.Ceil(1e6/high), math.Floor(1e6/low))
		}
		tell("_color_temperature", schema)
	}
	if can&32 != 0 || f.bool(6) {
		e.Can |= hasColor
		tell("_color", `"type":"string","pattern":"^#[0-9a-fA-F]{6}$"`)
	}
	if effects := f.texts(11); len(effects) > 0 {
		e.Can |= hasEffects
		tell("_effect", oneOf(append([]string{"None"}, effects...)))
	}
}

func describeClimate(e *Entity, f fields, tell func(suffix, schema string)) {
	var modes []string
	for _, m := range f.uints(7) {
		if m < uint64(len(climateModes)) {
			modes = append(modes, climateModes[m])
		}
	}
	tell("_mode", oneOf(modes))
	limits := bounds(f.float(8), f.float(9))
	if f.bool(6) {
		e.Can |= hasRange
		tell("_setpoint_low", degrees+limits)
		tell("_setpoint_high", degrees+limits)
	} else {
		tell("_setpoint", degrees+limits)
	}
	if f.bool(5) {
		e.Can |= hasCurrent
		tell("_temperature", degrees+readOnly)
	}
	if f.bool(12) {
		e.Can |= hasActivity
		tell("_activity", tellsOnly)
	}
}

// bounds of a number, where they make sense.
func bounds(low, high float64) string {
	if math.IsNaN(low) || math.IsNaN(high) || math.IsInf(low, 0) || math.IsInf(high, 0) || low >= high {
		return ""
	}
	return `,"minimum":` + string(wire.AppendFloat(nil, low)) + `,"maximum":` + string(wire.AppendFloat(nil, high))
}

// oneOf is the schema of a text that is one of those; of any where there are none, or one is there twice.
func oneOf(all []string) string {
	seen := map[string]bool{}
	b := []byte(`"type":"string","enum":[`)
	for i, s := range all {
		if seen[s] {
			continue
		}
		if seen[s] = true; i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendString(b, s)
	}
	if len(seen) == 0 {
		return `"type":"string"`
	}
	return string(append(b, ']'))
}

// unit is what the device calls it, in UCUM where that has another name for it.
func unit(u string) string {
	if u == "" {
		return ""
	}
	if ucum, ok := map[string]string{"°C": "Cel", "°F": "[degF]", "µg/m³": "ug/m3", "m³": "m3", "l": "L", "dBm": "dB[mW]"}[u]; ok {
		u = ucum
	}
	return `,"unit":` + string(wire.AppendString(nil, u))
}

// patch is a change of the twin's model.
type patch struct{ b []byte }

func newPatch() *patch { return &patch{} }

func (p *patch) empty() bool { return len(p.b) == 0 }

func (p *patch) member(name string) {
	if len(p.b) > 0 {
		p.b = append(p.b, ',')
	}
	p.b = append(wire.AppendString(p.b, name), ':')
}

func (p *patch) add(name, title, schema string) {
	p.member(name)
	p.b = append(wire.AppendString(append(p.b, `{"title":`...), title), ',')
	p.b = append(append(p.b, schema...), '}')
}

func (p *patch) remove(name string) {
	p.member(name)
	p.b = append(p.b, "null"...)
}

func (p *patch) value() wire.Value {
	return wire.Value(append(append([]byte(`{"properties":{`), p.b...), "}}"...))
}
