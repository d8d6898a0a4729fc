package drivers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

const lamp = `{
  "contract": "twin1", "name": "lamp", "version": "1.2.3-rc.1", "capabilities": ["send", "state_set"],
  "transport": {"scheme": "tcp", "default_port": 23, "tokenizer": {"delimiter": "\r"}},
  "model": {
    "properties": {
      "on": {"type": "boolean"},
      "level": {"type": "integer", "minimum": 0, "maximum": 100, "unit": "percent"},
      "hours": {"type": "number", "readOnly": true}
    },
    "actions": {
      "blink": {"input": {"type": "object", "properties": {"times": {"type": "integer", "minimum": 1}}, "required": ["times"], "additionalProperties": false}},
      "dim": {"input": {"type": "object", "properties": {"times": {"type": "integer"}}, "additionalProperties": false}},
      "reset": {"idempotent": true}
    },
    "events": {"burnt": {"data": {"type": "string"}}}
  },
  "settings": {
    "type": "object",
    "properties": {
      "password": {"type": "string", "writeOnly": true, "default": ""},
      "poll_s": {"type": "integer", "minimum": 1, "default": 30},
      "scenes": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
      "bus": {"type": "object", "properties": {"key": {"type": "string", "writeOnly": true}, "speed": {"type": "integer", "default": 9600}}}
    },
    "required": ["poll_s"],
    "additionalProperties": false
  }
}`

// with returns the lamp's manifest with a part replaced, and fails where the part is not there.
func with(t *testing.T, old, new string) []byte {
	t.Helper()
	if !strings.Contains(lamp, old) {
		t.Fatalf("the manifest does not hold %q", old)
	}
	return []byte(strings.Replace(lamp, old, new, 1))
}

func lampModel(t *testing.T) *drivers.Model {
	t.Helper()
	m, err := drivers.ParseManifest([]byte(lamp))
	if err != nil {
		t.Fatal(err)
	}
	model, err := drivers.NewModel(m)
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func TestManifestIsRefusedWithThePath(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`"twin1"`, `"twin2"`, `contract: "twin2" is not known`},
		{`"lamp"`, `"Lamp"`, `name: "Lamp" is not of`},
		{`"1.2.3-rc.1"`, `"v1.2"`, `version: "v1.2" is no semantic version`},
		{`["send", "state_set"]`, `["send", "fly"]`, `capabilities/1: "fly" is unknown`},
		{`["send", "state_set"]`, `["send", "fly"]`, `capabilities/1: "fly" is unknown`},
		{`["send", "state_set"]`, `["send", "send"]`, `capabilities/1: "send" is there twice`},
		{`"name": "lamp"`, `"name": "lamp", "memory_mb": 512`, `memory_mb: 512 is not between`},
		{`"name": "lamp"`, `"name": "lamp", "colour": 1`, `unknown field "colour"`},
		{`"tcp"`, `"carrier-pigeon"`, `transport/scheme: "carrier-pigeon" is not offered`},
		{`"tcp"`, `"mqtt"`, `tokenizer belongs to scheme tcp, ssh, serial, tcp-in`},
		{`"tcp"`, `"tcp", "trace_secrets": ["[0-9"]`, `transport/trace_secrets/0: error parsing regexp`},
		{`"tcp"`, `"tcp", "trace_secrets": ["x*"]`, `transport/trace_secrets/0: "x*" matches nothing at all`},
		{`23,`, `70000,`, `transport/default_port: 70000 is no port`},
		{`"delimiter": "\r"`, `"delimiter": "\r", "length_bytes": 2`, `exactly one of delimiter and length_bytes`},
		{`"delimiter": "\r"`, `"length_bytes": 3`, `length_bytes: 3 is not 1, 2 or 4`},
		{`"delimiter": "\r"`, `"delimiter": "\r", "max_frame": 99999999`, `max_frame`},
		{`"on": {"type": "boolean"}`, `"on": {"type": "switch"}`, `model/properties/on/type: "switch" is not one of`},
		{`"on": {"type": "boolean"}`, `"on": {}`, `model/properties/on/type`},
		{`"on": {`, `"on/off": {`, `model/properties/on/off: the name`},
		{`"maximum": 100`, `"maximum": "100"`, `model/properties/level: is no JSON Schema: /maximum`},
		{`"required": ["times"]`, `"$ref": "https://example.com/schema.json"`, `may not refer to https://example.com/schema.json`},
		{`"type": "object",
    "properties": {
      "password"`, `"type": "array",
    "properties": {
      "password"`, `settings/type: settings are an object`},
		{`"speed": {"type": "integer"`, `"keys": {"type": "array", "items": {"type": "string", "writeOnly": true}}, "speed": {"type": "integer"`,
			`settings/properties/bus/properties/keys/items/writeOnly: a secret is a property of the settings`},
	} {
		_, err := drivers.ParseManifest(with(t, c.old, c.new))
		var merr *drivers.ManifestError
		if !errors.As(err, &merr) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.new, err, c.want)
		}
	}
	for text, want := range map[string]string{"": "EOF", "[]": "cannot unmarshal", lamp + "{}": "more behind", "{": "unexpected"} {
		if _, err := drivers.ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
}

func TestTopicsOfAManifest(t *testing.T) {
	manifest := func(transport string) []byte {
		return fmt.Appendf(nil, `{"contract":"twin1","name":"x","version":"1.0.0","capabilities":[],"model":{},
			"settings":{"type":"object","properties":{"topic":{"type":"string"}}},"transport":{"scheme":"mqtt",%s}}`, transport)
	}
	if _, err := drivers.ParseManifest(manifest(`"subscribe":["tele/{topic}/+","stat/{topic}/#"],"publish":["cmnd/{topic}/#"],"will":{"topic":"tele/{topic}/LWT","online":"Online","offline":"Offline"}`)); err != nil {
		t.Error(err)
	}
	for transport, want := range map[string]string{
		`"device_subscribe":["cmnd/{device}/#"]`:                        "transport/device_subscribe/0: {device} is no setting",
		`"device_subscribe":["cmnd/all/#"]`:                             `transport/device_subscribe/0: "cmnd/all/#" is the same for all devices`,
		`"device_publish":["tele/{topic}/a#"]`:                          "transport/device_publish/0: \"tele/{topic}/a#\" is no topic filter",
		`"subscribe":["tele/{device}/+"]`:                               "transport/subscribe/0: {device} is no setting",
		`"subscribe":["#"]`:                                             "reaches beyond a device's topics",
		`"subscribe":["+/#"]`:                                           "reaches beyond a device's topics",
		`"subscribe":["$SYS/x"]`:                                        "reaches beyond a device's topics",
		`"publish":["a/b+"]`:                                            "is no topic filter",
		`"publish":["a/#/b"]`:                                           "is no topic filter",
		`"publish":["a/{topic"]`:                                        "unpaired brace",
		`"publish":[""]`:                                                "1 to 512 bytes",
		`"will":{"topic":"a/+","online":"1","offline":"0"}`:             "holds a wildcard",
		`"will":{"topic":"a/{topic}","online":"same","offline":"same"}`: "the same payload",
	} {
		if _, err := drivers.ParseManifest(manifest(transport)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", transport, err, want)
		}
	}
}

func TestModelValidates(t *testing.T) {
	m := lampModel(t)
	if got := strings.Join(m.Properties(), " "); got != "hours level on" {
		t.Errorf("properties %s", got)
	}
	if p := m.Property("level"); p.Type != "integer" || p.Unit != "percent" || !p.Writable || m.Property("hours").Writable || m.Property("x") != nil {
		t.Errorf("level %+v", p)
	}
	if a := m.Action("reset"); !a.Idempotent || a.Safe || a.Input != nil || m.Event("burnt") == nil {
		t.Errorf("reset %+v", a)
	}
	for _, c := range []struct {
		name, want string
		err        error
	}{
		{"property level 50", "", m.ValidateProperty("level", []byte("50"))},
		{"property level 500", "property level: /: maximum: got 500, want 100", m.ValidateProperty("level", []byte("500"))},
		{"property level text", "got string, want integer", m.ValidateProperty("level", []byte(`"50"`))},
		{"property level broken", "is not valid JSON", m.ValidateProperty("level", []byte(`{`))},
		{"property hours", "read only", m.ValidateProperty("hours", []byte("1"))},
		{"property x", "unknown to the model; there are hours, level, on", m.ValidateProperty("x", []byte("1"))},
		{"action blink", "", m.ValidateAction("blink", []byte(`{"times":2}`))},
		{"action blink 0", "action blink: /times: minimum: got 0, want 1", m.ValidateAction("blink", []byte(`{"times":0}`))},
		{"action blink without", "missing property 'times'", m.ValidateAction("blink", nil)},
		{"action blink null", "missing property 'times'", m.ValidateAction("blink", []byte("null"))},
		{"action dim without", "", m.ValidateAction("dim", nil)},
		{"action dim null", "", m.ValidateAction("dim", []byte("null"))},
		{"action dim 5", "got number, want object", m.ValidateAction("dim", []byte("5"))},
		{"action blnik", "unknown to the model; did you mean blink?", m.ValidateAction("blnik", nil)},
		{"action Reset", "unknown to the model; did you mean reset?", m.ValidateAction("Reset", nil)},
		{"property levle", "unknown to the model; did you mean level?", m.ValidateProperty("levle", []byte("1"))},
		{"property hou", "unknown to the model; did you mean hours?", m.ValidateProperty("hou", []byte("1"))},
		{"action blink extra", "additional properties 'x' not allowed", m.ValidateAction("blink", []byte(`{"times":1,"x":1}`))},
		{"action reset", "", m.ValidateAction("reset", nil)},
		{"action reset {}", "", m.ValidateAction("reset", []byte("{}"))},
		{"action reset 5", "takes no input", m.ValidateAction("reset", []byte("5"))},
		{"action fly", "unknown to the model; there are blink, dim, reset", m.ValidateAction("fly", nil)},
	} {
		if c.want == "" && c.err != nil || c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, c.err, c.want)
		}
	}
	if err := m.ValidateProperty("hours", []byte("1")); !errors.Is(err, drivers.ErrReadOnly) {
		t.Error(err)
	}
	if err := m.ValidateAction("fly", nil); !errors.Is(err, drivers.ErrUnknown) {
		t.Error(err)
	}
}

func TestFits(t *testing.T) {
	m := lampModel(t)
	for _, c := range []struct {
		property, value string
		want            bool
	}{{"on", "true", true}, {"on", "1", false}, {"level", "3", true}, {"level", "3.5", false}, {"level", "300", true}, {"hours", "3.5", true},
		{"hours", `"3"`, false}, {"hours", "null", true}, {"on", "{}", false}, {"on", "[]", false}, {"on", "", false}} {
		if got := m.Property(c.property).Fits([]byte(c.value)); got != c.want {
			t.Errorf("%s %s: %v", c.property, c.value, got)
		}
	}
}

func TestSettings(t *testing.T) {
	m := lampModel(t)
	if got := strings.Join(m.Secrets(), " "); got != "bus/key password" {
		t.Errorf("secrets %s", got)
	}
	for in, want := range map[string]string{
		"":                          `{"password":"","poll_s":30}`,
		"null":                      `{"password":"","poll_s":30}`,
		`{"poll_s":5}`:              `{"password":"","poll_s":5}`,
		`{"bus":{"key":"k"}}`:       `{"bus":{"key":"k","speed":9600},"password":"","poll_s":30}`,
		`{"poll_s":12345678901234}`: `{"password":"","poll_s":12345678901234}`,
	} {
		if got, err := m.ValidateSettings([]byte(in)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		`{"poll_s":0}`:                         "settings: /poll_s: minimum: got 0, want 1",
		`{"scenes":[{"name":"a"},{"name":7}]}`: "settings: /scenes/1/name: got number, want string",
		`{"port":1}`:                           "additional properties 'port' not allowed",
		`[]`:                                   "want an object",
		`{"poll_s":`:                           "is not valid JSON",
	} {
		_, err := m.ValidateSettings([]byte(in))
		var serr *drivers.SchemaError
		if !errors.As(err, &serr) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
	// A secret's value is not quoted: others than who wrote it read the error.
	secret, err := drivers.NewModel(&drivers.Manifest{Model: json.RawMessage("{}"), Settings: json.RawMessage(
		`{"type":"object","properties":{"pin":{"type":"string","writeOnly":true,"pattern":"^[0-9]+$"},"bus":{"type":"object","properties":{"code":{"type":"integer","maximum":9,"writeOnly":true}}}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		`{"pin":"hunter2"}`:       "settings: /pin: the secret does not fit the schema's pattern",
		`{"bus":{"code":4711}}`:   "settings: /bus/code: the secret does not fit the schema's maximum",
		`{"bus":{"code":"4711"}}`: "settings: /bus/code: got string, want integer",
		`{"bus":{},"pin":7}`:      "settings: /pin: got number, want string",
	} {
		if _, err := secret.ValidateSettings([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
	if err := secret.ValidateSetting("pin", []byte(`"hunter2"`)); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the setting alone: %v", err)
	}
	bare, err := drivers.NewModel(&drivers.Manifest{Model: json.RawMessage("{}")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bare.ValidateSettings(nil); err != nil || string(got) != "{}" {
		t.Errorf("no schema: %s, %v", got, err)
	}
	if _, err := bare.ValidateSettings([]byte(`{"a":1}`)); err == nil {
		t.Error("a driver without settings takes some")
	}
}

func TestPatchNarrowsAndExtendsTheModel(t *testing.T) {
	m := lampModel(t)
	p, err := m.Patch([]byte(`{"properties":{"hours":null,"colour":{"type":"string"},"level":{"maximum":50}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.Properties(), " "); got != "colour level on" || len(m.Properties()) != 3 || m.Property("hours") == nil {
		t.Errorf("patched %s, before %v", got, m.Properties())
	}
	if p.ValidateProperty("level", []byte("60")) == nil || m.ValidateProperty("level", []byte("60")) != nil {
		t.Error("the narrower bound does not hold, or holds for the model before")
	}
	if _, err := p.ValidateSettings([]byte(`{"poll_s":0}`)); err == nil {
		t.Error("the settings' schema is gone")
	}
	for _, patch := range []string{`{"properties":{"x":{"type":"y"}}}`, `{"properties":5}`, `[`} {
		if _, err := m.Patch([]byte(patch)); err == nil {
			t.Errorf("%s is taken", patch)
		}
	}
}

func TestManifestSection(t *testing.T) {
	empty := []byte("\x00asm\x01\x00\x00\x00")
	if _, err := drivers.ReadManifest(empty); !errors.Is(err, drivers.ErrNoManifest) {
		t.Error(err)
	}
	one, err := drivers.AppendManifest(empty, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	two, err := drivers.AppendManifest(one, []byte(lamp)) // replaces
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drivers.ReadManifest(two); err != nil || string(got) != lamp {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := drivers.ReadManifest(append(two, one[8:]...)); err == nil || !strings.Contains(err.Error(), "two custom sections") {
		t.Error(err)
	}
	for _, file := range []string{"", "hello, world", "\x00asm\x01\x00\x00\x00\x00\x05\x01", "\x00asm\x01\x00\x00\x00\x00\x01\x7f", "\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\xff\x01"} {
		if _, err := drivers.ReadManifest([]byte(file)); err == nil || errors.Is(err, drivers.ErrNoManifest) {
			t.Errorf("%q: %v", file, err)
		}
		if _, err := drivers.AppendManifest([]byte(file), nil); err == nil {
			t.Errorf("%q takes a manifest", file)
		}
	}
}

// TestBundledManifests reads each driver's manifest of this repository.
func TestBundledManifests(t *testing.T) {
	for _, pattern := range []string{"*/driver.json", "testdata/*/driver.json"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := drivers.ParseManifest(text); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
