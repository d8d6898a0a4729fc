package main

import (
	"slices"
	"strconv"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// maxChildren of a node whose values can be set by their properties; the action set reaches all.
const maxChildren = 32

// valueKind is a kind of values (V_…, https://www.mysensors.org/download/serial_api_20) as a property.
type valueKind struct {
	name, kind, unit string
	get              func(text string) (any, bool)
	set              func(v wire.Value) (string, bool)
}

var kinds = map[int]valueKind{
	0:  {"temperature", "number", "Cel", getNumber, nil},
	1:  {"humidity", "number", "%", getNumber, nil},
	2:  {"status", "boolean", "", getBool, setBool},
	3:  {"percentage", "number", "%", getNumber, setPercentage},
	4:  {"pressure", "number", "hPa", getNumber, nil},
	6:  {"rain", "number", "mm", getNumber, nil},
	8:  {"wind", "number", "m/s", getNumber, nil},
	11: {"uv", "number", "", getNumber, nil},
	13: {"distance", "number", "cm", getNumber, nil},
	16: {"tripped", "boolean", "", getBool, nil},
	17: {"power", "number", "W", getNumber, nil},
	18: {"energy", "number", "kWh", getNumber, nil},
	23: {"light", "number", "%", getNumber, nil},
	37: {"level", "number", "", getNumber, nil},
	38: {"voltage", "number", "V", getNumber, nil},
	39: {"current", "number", "A", getNumber, nil},
	40: {"rgb", "string", "", getText, setText},
	44: {"setpoint_cool", "number", "Cel", getNumber, setNumber},
	45: {"setpoint_heat", "number", "Cel", getNumber, setNumber},
	47: {"text", "string", "", getText, setText},
	49: {"position", "string", "", getText, nil},
	56: {"power_factor", "number", "", getNumber, nil},
}

func getNumber(text string) (any, bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && v == v && v < 1e300 && v > -1e300
}

func getBool(text string) (any, bool) { return text == "1", text == "0" || text == "1" }
func getText(text string) (any, bool) { return text, true }

func setBool(v wire.Value) (string, bool) {
	on, ok := v.Bool()
	if on {
		return "1", ok
	}
	return "0", ok
}

func setText(v wire.Value) (string, bool) {
	text, ok := v.Text()
	return text, ok && len(text) <= 25
}

func setNumber(v wire.Value) (string, bool) {
	n, ok := v.Float()
	return strconv.FormatFloat(n, 'f', 1, 64), ok
}

func setPercentage(v wire.Value) (string, bool) {
	n, ok := v.Float()
	return strconv.Itoa(int(n + 0.5)), ok && n >= 0 && n <= 100
}

// found is a property that a node turned out to have.
type found struct {
	name, title, child string
	kind               valueKind
}

// describe tells of the node's properties in the twin's model, those that were found before included.
func describe(t *Twin, fresh []found) error {
	patch := []byte(`{"properties":{`)
	more := false
	for _, f := range fresh {
		if slices.Contains(t.Memory().Known, f.name) {
			continue
		}
		t.Memory().Known = append(t.Memory().Known, f.name)
		if more {
			patch = append(patch, ',')
		}
		more = true
		title := f.title
		if title == "" {
			title = f.kind.name + " of child " + f.child
		}
		patch = append(wire.AppendString(patch, f.name), `:{"type":`...)
		patch = wire.AppendString(patch, f.kind.kind)
		patch = wire.AppendString(append(patch, `,"title":`...), title)
		if f.kind.unit != "" {
			patch = wire.AppendString(append(patch, `,"unit":`...), f.kind.unit)
		}
		c, _ := strconv.Atoi(f.child)
		if f.kind.set == nil || c >= maxChildren {
			patch = append(patch, `,"readOnly":true`...)
		}
		patch = append(patch, '}')
	}
	if !more {
		return nil
	}
	return t.Describe(wire.Value(append(patch, "}}"...)))
}
