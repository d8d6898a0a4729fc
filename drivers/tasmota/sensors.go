package main

import (
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// units are those that a SENSOR message names for all its values.
type units struct{ temperature, pressure, speed string }

// sensors takes SENSOR and STATUS10: a member per sensor, an object of its values or one bare value.
func sensors(t *Twin, doc wire.Value) {
	u := units{temperature: "Cel", pressure: "hPa"}
	if s, _ := doc.Get("TempUnit").Text(); s == "F" {
		u.temperature = "[degF]"
	}
	if s, _ := doc.Get("PressureUnit").Text(); s == "mmHg" {
		u.pressure = "mm[Hg]"
	}
	if s, _ := doc.Get("SpeedUnit").Text(); len(s) <= 8 {
		u.speed = s
	}
	doc.Each(func(key string, v wire.Value) bool {
		switch key {
		case "Time", "Epoch", "TempUnit", "PressureUnit", "SpeedUnit":
		case "ENERGY":
			energy(t, v)
		default:
			sensor(t, snake(key), key, v, u, 0)
		}
		return true
	})
}

// sensor reports a value, or what an object or an array holds, with the names joined.
func sensor(t *Twin, name, key string, v wire.Value, u units, depth int) {
	if name == "" || len(name) > 60 || taken[name] || relayOf(strings.ToUpper(name)) > 0 {
		return
	}
	switch v.Kind() {
	case wire.Object:
		if depth >= 2 {
			return
		}
		if action, ok := v.Get("Action").Text(); ok { // "Switch1":{"Action":"ON"} of SetOption114
			sensorText(t, name, action)
			return
		}
		v.Each(func(inner string, v wire.Value) bool {
			if inner != "Id" && inner != "Address" {
				if s := snake(inner); s != "" {
					sensor(t, name+"_"+s, inner, v, u, depth+1)
				}
			}
			return true
		})
	case wire.Array:
		i := 0
		v.Each(func(_ string, v wire.Value) bool {
			i++
			if v.Kind() == wire.Number {
				sensor(t, name+"_"+strconv.Itoa(i), key, v, u, 2)
			}
			return i < 8
		})
	case wire.Number:
		if f, ok := v.Float(); ok {
			report(t, name, "n:"+unitOf(key, u), f)
		}
	case wire.Bool:
		b, _ := v.Bool()
		report(t, name, "b", b)
	case wire.String:
		s, _ := v.Text()
		sensorText(t, name, s)
	case wire.Null: // the sensor does not answer
		if _, seen := t.Memory().Seen[name]; seen {
			t.Report(name, nil)
		}
	}
}

func sensorText(t *Twin, name, s string) {
	switch s {
	case "ON":
		report(t, name, "b", true)
	case "OFF":
		report(t, name, "b", false)
	default:
		if len(s) <= 256 {
			report(t, name, "s", s)
		}
	}
}

func unitOf(key string, u units) string {
	switch key {
	case "Temperature", "DewPoint", "HeatIndex":
		return u.temperature
	case "Pressure", "SeaPressure", "QFE", "QNH":
		return u.pressure
	case "Humidity", "Moisture", "Battery":
		return "%"
	case "Illuminance":
		return "lx"
	case "CarbonDioxide", "eCO2":
		return "[ppm]"
	case "TVOC":
		return "[ppb]"
	case "Distance":
		return "cm"
	case "Speed":
		return u.speed
	}
	if strings.HasPrefix(key, "PM") && len(key) > 2 && key[2] >= '0' && key[2] <= '9' {
		return "ug/m3"
	}
	return ""
}

// meters are the members of ENERGY that are reported, with name and unit.
var meters = []struct{ key, name, spec string }{
	{"Power", "power_w", "n:W"}, {"ApparentPower", "apparent_power_va", "n:VA"}, {"ReactivePower", "reactive_power_var", "n:var"},
	{"Factor", "power_factor", "n:"}, {"Voltage", "voltage", "n:V"}, {"Current", "current", "n:A"},
	{"Frequency", "frequency", "n:Hz"}, {"Total", "total_kwh", "n:kWh"}, {"Today", "today_kwh", "n:kWh"},
	{"Yesterday", "yesterday_kwh", "n:kWh"}, {"ExportActive", "export_kwh", "n:kWh"},
}

// energy takes a meter of one phase, or of several, which gives arrays: voltage_1, voltage_2 …
func energy(t *Twin, doc wire.Value) {
	for _, m := range meters {
		v := doc.Get(m.key)
		if f, ok := v.Float(); ok {
			report(t, m.name, m.spec, f)
			continue
		}
		if v.Kind() != wire.Array {
			continue
		}
		i := 0
		v.Each(func(_ string, v wire.Value) bool {
			i++
			if f, ok := v.Float(); ok {
				report(t, m.name+"_"+strconv.Itoa(i), m.spec, f)
			}
			return i < 8
		})
	}
}
