package model

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

const projector = `{"@type":"tm:ThingModel","title":"Projector","properties":{
	"power":{"type":"boolean","observable":true,"forms":[]},
	"lamp":{"type":"integer","readOnly":true,"unit":"h"},
	"input":{"type":"string","enum":["hdmi1","vga"]}},
	"actions":{"mute":{"input":{"type":"object","properties":{"level":{"type":"integer","maximum":10}},"required":["level"]}},"reset":{}}}`

func TestChecks(t *testing.T) {
	m, err := Parse([]byte(projector))
	if err != nil {
		t.Fatal(err)
	}
	if m.Title != "Projector" || m.Unit("lamp") != "h" {
		t.Errorf("title %q, unit %q", m.Title, m.Unit("lamp"))
	}
	for _, c := range []struct {
		kind, name, value, path string
	}{
		{"property", "power", `true`, ""},
		{"property", "power", `1`, "/value"},
		{"property", "lamp", `1`, "/properties/lamp"},
		{"property", "nope", `1`, "/properties/nope"},
		{"property", "input", `"vga"`, ""},
		{"property", "input", `"dvi"`, "/value"},
		{"action", "mute", `{"level":3}`, ""},
		{"action", "mute", `{"level":11}`, "/input/level"},
		{"action", "mute", `{}`, "/input"},
		{"action", "reset", `null`, ""},
		{"action", "explode", `null`, "/actions/explode"},
	} {
		var v any
		if err := json.Unmarshal([]byte(c.value), &v); err != nil {
			t.Fatal(err)
		}
		err := m.CheckProperty(c.name, v)
		if c.kind == "action" {
			err = m.CheckInput(c.name, v)
		}
		var e *Error
		if errors.As(err, &e) != (c.path != "") || e != nil && e.Path != c.path {
			t.Errorf("%s %s = %s: %v, want path %q", c.kind, c.name, c.value, err, c.path)
		}
	}
}

func TestPatch(t *testing.T) {
	m, err := Parse([]byte(projector))
	if err != nil {
		t.Fatal(err)
	}
	one := []byte(`{"properties":{"power1":{"type":"boolean"},"power":null}}`)
	two := []byte(`{"properties":{"power2":{"type":"boolean"}}}`)
	both, err := MergePatches(one, two)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Patched(both)
	if err != nil {
		t.Fatal(err)
	}
	if p.HasProperty("power") || !p.HasProperty("power1") || !p.HasProperty("power2") || !p.HasProperty("lamp") {
		t.Errorf("patched model: %s", p.Raw())
	}
	if !m.HasProperty("power") {
		t.Error("the patch changed the original")
	}
	if _, err := m.Patched([]byte(`[1]`)); err == nil {
		t.Error("a patch that is no object was taken")
	}
}

func TestSettings(t *testing.T) {
	s, err := ParseSettings([]byte(`{"type":"object","properties":{
		"topic":{"type":"string","pattern":"^[a-z]+$"},"interval":{"type":"integer","default":10},
		"password":{"type":"string","writeOnly":true}},"required":["topic"],"additionalProperties":false}`))
	if err != nil {
		t.Fatal(err)
	}
	full, err := s.Apply(map[string]any{"topic": "lamp", "password": "geheim"})
	if err != nil {
		t.Fatal(err)
	}
	if full["interval"] != float64(10) {
		t.Errorf("defaults: %v", full)
	}
	if got := s.Secrets(full); !reflect.DeepEqual(got, []string{"geheim"}) {
		t.Errorf("secrets: %v", got)
	}
	masked := s.Mask(full)
	if masked["password"] != Secret || full["password"] != "geheim" {
		t.Errorf("masked %v of %v", masked, full)
	}
	if un := s.Unmask(masked, full); un["password"] != "geheim" {
		t.Errorf("unmasked: %v", un)
	}
	for path, bad := range map[string]map[string]any{
		"/settings/topic": {"topic": "UPPER"}, "/settings": {}, "/settings/interval": {"topic": "a", "interval": "x"},
	} {
		var e *Error
		if _, err := s.Apply(bad); !errors.As(err, &e) || e.Path != path {
			t.Errorf("%v: %v, want path %s", bad, err, path)
		}
	}
	if got, err := Substitute("tele/{topic}/+", full); err != nil || got != "tele/lamp/+" {
		t.Errorf("substituted %q, %v", got, err)
	}
	if _, err := Substitute("tele/{nope}/+", full); err == nil {
		t.Error("a missing setting was substituted")
	}
}

func TestNoForeignReferences(t *testing.T) {
	s, err := ParseSettings([]byte(`{"$ref":"file:///etc/passwd"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(nil); err == nil {
		t.Error("a reference to a file was followed")
	}
}
