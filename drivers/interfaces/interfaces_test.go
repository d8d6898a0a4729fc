package interfaces_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/interfaces"
)

// TestAllKnown: every file is an interface that is listed, implements itself, and is written as Thing Models are.
func TestAllKnown(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		name, isModel := strings.CutSuffix(f.Name(), ".json")
		if !isModel {
			continue
		}
		n++
		if !slices.ContainsFunc(interfaces.Names(), func(s string) bool { return strings.ToLower(s) == name }) {
			t.Errorf("%s is not listed", f.Name())
		}
	}
	for _, name := range []string{"Powerable", "Switchable", "Dimmable", "Lighting", "Muteable", "Volume", "InputSelectable", "Camera", "Climate", "TemperatureSensor",
		"HumiditySensor", "CO2Sensor", "LightSensor", "MotionSensor", "PresenceSensor", "ContactSensor", "LeakSensor", "SmokeSensor", "PressureSensor", "Lock", "Cover",
		"EnergyMeter", "Mailer"} {
		if !slices.Contains(interfaces.Names(), name) {
			t.Errorf("%s, on which drivers and rooms rely, is gone", name)
		}
	}
	if n != len(interfaces.Names()) {
		t.Errorf("%d files, %d names", n, len(interfaces.Names()))
	}
	for _, name := range interfaces.Names() {
		i, ok := interfaces.Get(name)
		if !ok || i.Title == "" || i.Description == "" {
			t.Errorf("%s: %+v", name, i)
			continue
		}
		if err := interfaces.Check(name, i.Model); err != nil {
			t.Errorf("does not implement itself: %v", err)
		}
		var m struct {
			Type       string                     `json:"@type"`
			Optional   []string                   `json:"tm:optional"`
			Properties map[string]json.RawMessage `json:"properties"`
			Actions    map[string]json.RawMessage `json:"actions"`
		}
		if err := json.Unmarshal(i.Model, &m); err != nil || m.Type != "tm:ThingModel" {
			t.Errorf("%s: %v, type %q", name, err, m.Type)
		}
		for _, path := range m.Optional {
			kind, what, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
			if _, p := m.Properties[what]; kind == "properties" && !p {
				t.Errorf("%s: optional %s is not there", name, path)
			}
			if _, a := m.Actions[what]; kind == "actions" && !a {
				t.Errorf("%s: optional %s is not there", name, path)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, model, want string }{
		{"Powerable", `{"properties":{"power":{"type":"boolean"}}}`, ""},
		{"Powerable", `{"properties":{}}`, "Powerable: properties/power is missing: a boolean is asked for"},
		{"Powerable", `{"properties":{"power":{"type":"string"}}}`, "Powerable: properties/power is of type string, boolean is asked for"},
		{"Powerable", `{"properties":{"power":{"type":"boolean","readOnly":true}}}`, "Powerable: properties/power is read only, and is to be writable"},
		{"TemperatureSensor", `{"properties":{"temperature":{"type":"integer","unit":"Cel"}}}`, ""},
		{"TemperatureSensor", `{"properties":{"temperature":{"type":"number","unit":"degF"}}}`, "TemperatureSensor: properties/temperature is in degF, Cel is asked for"},
		{"TemperatureSensor", `{"properties":{"temperature":{"type":"number"}}}`, "TemperatureSensor: properties/temperature is in none, Cel is asked for"},
		{"Climate", `{"properties":{"temperature":{"type":"number","unit":"Cel"},"setpoint":{"type":"number","unit":"Cel"},"mode":{"type":"string","enum":["off","heat"]}}}`, ""},
		{"Climate", `{"properties":{"temperature":{"type":"number","unit":"Cel"},"setpoint":{"type":"number","unit":"Cel"},"mode":{"type":"string","enum":["off","boost"]}}}`,
			"Climate: properties/mode may be boost, which is not one of [off heat cool auto dry fan]"},
		{"Cover", `{"properties":{"position":{"type":"integer","unit":"%"}},"actions":{"open":{},"close":{}}}`, "Cover: actions/stop is missing"},
		{"Cover", `{"properties":{"position":{"type":"integer","unit":"%"}},"actions":{"open":{"input":{"type":"object","required":["speed"]}},"close":{},"stop":{}}}`,
			"Cover: actions/open/input needs speed, and is to need nothing"},
		{"Mailer", `{"actions":{"send":{"input":{"type":"object","properties":{"to":{"type":"array"},"subject":{"type":"string"},"text":{"type":"string"}},"required":["to"]}}}}`, ""},
		{"Mailer", `{"actions":{"send":{"input":{"type":"object","properties":{"to":{"type":"string"},"subject":{"type":"string"},"text":{"type":"string"}}}}}}`,
			"Mailer: actions/send/input/to is of type string, array is asked for"},
		{"Mailer", `{"actions":{"send":{"input":{"type":["object","null"],"properties":{"to":true}}}}}`, "Mailer: actions/send/input is of type none, object is asked for"},
	} {
		got := ""
		if err := interfaces.Check(c.name, []byte(c.model)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s:\n got %q\nwant %q", c.name, c.model, got, c.want)
		}
	}
	if err := interfaces.Check("Flyable", []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "is unknown; there are Powerable, ") {
		t.Errorf("unknown interface: %v", err)
	}
}

// FuzzCheck: whatever a driver's model is, it gets an answer.
func FuzzCheck(f *testing.F) {
	f.Add(`{"properties":{"power":{"type":"boolean","enum":[{}]}}}`)
	f.Add(`{"properties":{"mode":{"type":"string","enum":[["off"]]},"temperature":true}}`)
	f.Add(`{"actions":{"send":{"input":{"type":1,"properties":{"to":false}}}}}`)
	f.Fuzz(func(t *testing.T, model string) {
		for _, name := range interfaces.Names() {
			_ = interfaces.Check(name, []byte(model))
		}
	})
}
