package main

import (
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// maxSeen bounds what one device can add to its model.
const maxSeen = 128

// report reports a property that not all devices have. At its first value it is described: spec is b (boolean), s
// (string), or n: and a unit (number). A value of another kind than the first is passed over.
func report(t *Twin, name, spec string, value any) {
	m := t.Memory()
	known, ok := m.Seen[name]
	if ok && known[0] != spec[0] {
		return
	}
	if known != spec {
		if !ok && len(m.Seen) >= maxSeen {
			if !m.Full {
				m.Full = true
				t.Log("warn", "the device has more than "+strconv.Itoa(maxSeen)+" properties; "+name+" and others are left out")
			}
			return
		}
		if m.Seen == nil {
			m.Seen = map[string]string{}
		}
		m.Seen[name] = spec
		m.changed = true
	}
	t.Report(name, value)
}

// describeChanged describes what was new in a call, once.
func describeChanged(t *Twin) {
	if m := t.Memory(); m.changed {
		m.changed = false
		describe(t)
	}
}

// describe extends the model by all that was seen of this device.
func describe(t *Twin) {
	m := t.Memory()
	if len(m.Seen) == 0 {
		return
	}
	properties := make(map[string]any, len(m.Seen))
	for name, spec := range m.Seen {
		properties[name] = schemaOf(m, name, spec)
	}
	if err := t.Describe(map[string]any{"properties": properties}); err != nil {
		t.Log("warn", "describe: "+err.Error())
	}
}

// taken are the names of the properties that all devices have, or lights: no sensor may be called so.
var taken = map[string]bool{
	"name": true, "module": true, "version": true, "ip": true, "mac": true, "hostname": true, "restart_reason": true,
	"uptime_s": true, "wifi_rssi": true, "wifi_signal": true, "mqtt_count": true,
	"dimmer": true, "white": true, "ct": true, "color": true, "hsb": true,
}

// lightParts are the writable properties of lights.
var lightParts = map[string]string{
	"dimmer": `{"title":"Brightness","type":"integer","minimum":0,"maximum":100,"unit":"%"}`,
	"white":  `{"title":"White brightness","type":"integer","minimum":0,"maximum":100,"unit":"%"}`,
	"ct":     `{"title":"Colour temperature","type":"integer","minimum":153,"maximum":500,"unit":"mired"}`,
	"color":  `{"title":"Colour","type":"string","pattern":"^#[0-9A-Fa-f]{6}$"}`,
	"hsb":    `{"title":"Hue, saturation, brightness","type":"string","pattern":"^[0-9]{1,3},[0-9]{1,3},[0-9]{1,3}$"}`,
}

func schemaOf(m *Memory, name, spec string) any {
	if text, ok := lightParts[name]; ok {
		return wire.Value(text)
	}
	if n := relayOf("POWER" + strings.TrimPrefix(name, "power")); n > 0 && strings.HasPrefix(name, "power") && spec == "b" {
		title := "Relay " + strconv.Itoa(n)
		if n <= len(m.Names) && m.Names[n-1] != "" {
			title = m.Names[n-1]
		}
		return map[string]any{"title": title, "type": "boolean"}
	}
	schema := map[string]any{"readOnly": true}
	switch spec[0] {
	case 'b':
		schema["type"] = "boolean"
	case 's':
		schema["type"] = "string"
	default:
		schema["type"] = "number"
		if unit := spec[2:]; unit != "" {
			schema["unit"] = unit
		}
	}
	return schema
}
