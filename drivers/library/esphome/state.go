package main

import (
	"math"
	"strconv"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Names of the API's numbers.
var (
	operations   = []string{"idle", "opening", "closing"}
	directions   = []string{"forward", "reverse"}
	climateModes = []string{"off", "heat_cool", "cool", "heat", "fan_only", "dry", "auto"}
	activities   = []string{"off", "", "cooling", "heating", "idle", "drying", "fan"}
)

// kindOf has the kind of the entity that a message tells the state of.
var kindOf = map[int]int{21: binarySensor, 22: cover, 23: fan, 24: light, 25: sensor, 26: onOff, 27: textSensor, 47: climate, 50: number, 53: choice, 98: text}

// state takes a message that tells a state.
func state(t *Twin, message int, f fields) {
	kind, ok := kindOf[message]
	if !ok {
		return
	}
	for _, e := range t.Memory().Entities {
		if e.Kind == kind && e.Key == uint32(f.uint(1)) {
			told(t, e, f)
			return
		}
	}
}

func told(t *Twin, e Entity, f fields) {
	report := func(suffix string, v any) { t.Report(e.Name+suffix, v) }
	switch e.Kind {
	case onOff:
		report("", f.bool(2))
	case binarySensor:
		report("", unless(f.bool(3), f.bool(2)))
	case sensor, number:
		report("", unless(f.bool(3), finite(f.float(2))))
	case textSensor, choice, text:
		report("", unless(f.bool(3), f.text(2)))
	case cover:
		report("", percent(f.float(3)))
		report("_state", name(operations, f.uint(5)))
		if e.Can&hasTilt != 0 {
			report("_tilt", percent(f.float(4)))
		}
	case fan:
		fanTold(e, f, report)
	case light:
		lightTold(e, f, report)
	case climate:
		climateTold(e, f, report)
	}
}

func fanTold(e Entity, f fields, report func(string, any)) {
	report("", f.bool(2))
	if e.Can&hasSpeed != 0 {
		report("_speed", int(int32(f.uint(6))))
	}
	if e.Can&hasOscillation != 0 {
		report("_oscillating", f.bool(3))
	}
	if e.Can&hasDirection != 0 {
		report("_direction", name(directions, f.uint(5)))
	}
	if e.Can&hasPresets != 0 {
		report("_preset", unless(f.text(7) == "", f.text(7)))
	}
}

func lightTold(e Entity, f fields, report func(string, any)) {
	report("", f.bool(2))
	if e.Can&hasBrightness != 0 {
		report("_brightness", percent(f.float(3)))
	}
	if e.Can&hasTemperature != 0 {
		kelvin := math.Round(1e6 / f.float(8))
		report("_color_temperature", finite(kelvin))
	}
	if e.Can&hasColor != 0 {
		strength := f.float(10)
		if f.uint(11) == 0 {
			strength = 1 // firmware that knows no color modes
		}
		color := []byte("#")
		for _, field := range []int{4, 5, 6} {
			color = append(color, hex(level(f.float(field)*strength, 255))...)
		}
		report("_color", string(color))
	}
	if e.Can&hasEffects != 0 {
		report("_effect", f.text(9))
	}
}

func climateTold(e Entity, f fields, report func(string, any)) {
	report("_mode", name(climateModes, f.uint(2)))
	if e.Can&hasCurrent != 0 {
		report("_temperature", finite(f.float(3)))
	}
	if e.Can&hasRange != 0 {
		report("_setpoint_low", finite(f.float(5)))
		report("_setpoint_high", finite(f.float(6)))
	} else {
		report("_setpoint", finite(f.float(4)))
	}
	if e.Can&hasActivity != 0 {
		report("_activity", name(activities, f.uint(8)))
	}
}

// unless is the value, or that it is not known.
func unless(missing bool, v any) any {
	if missing {
		return nil
	}
	return v
}

func finite(v float64) any { return unless(math.IsNaN(v) || math.IsInf(v, 0), v) }

func name(all []string, i uint64) any {
	if i >= uint64(len(all)) || all[i] == "" {
		return nil
	}
	return all[i]
}

// level is a share of 1 in steps.
func level(v, steps float64) int {
	if math.IsNaN(v) {
		return 0
	}
	return int(math.Round(min(max(v, 0), 1) * steps))
}

func percent(v float64) int { return level(v, 100) }

func hex(v int) string {
	if v < 16 {
		return "0" + strconv.FormatInt(int64(v), 16)
	}
	return strconv.FormatInt(int64(v), 16)
}

// write asks the device for a value of a property. The model has checked its type.
func write(t *Twin, property string, v wire.Value) error {
	e, ok := owner(t.Memory().Entities, property)
	if !ok {
		return &twin.Error{Code: 2, Message: "the device has no " + property}
	}
	on, _ := v.Bool()
	amount, _ := v.Float()
	words, _ := v.Text()
	m := e.message()
	switch part := property[len(e.Name):]; e.Kind {
	case onOff:
		return command(t, 33, m.bool(2, on))
	case number:
		return command(t, 51, m.float(2, amount))
	case choice:
		return command(t, 54, m.text(2, words))
	case text:
		return command(t, 99, m.text(2, words))
	case cover:
		switch part {
		case "":
			return command(t, 30, m.bool(4, true).float(5, amount/100))
		case "_tilt":
			return command(t, 30, m.bool(6, true).float(7, amount/100))
		}
	case fan:
		return writeFan(t, m, part, on, amount, words)
	case light:
		return writeLight(t, m, part, on, amount, words)
	case climate:
		return writeClimate(t, m, part, amount, words)
	}
	return &twin.Error{Code: 2, Message: property + " cannot be set"}
}

func writeFan(t *Twin, m message, part string, on bool, amount float64, words string) error {
	switch part {
	case "":
		m = m.bool(2, true).bool(3, on)
	case "_speed":
		m = m.bool(10, true).uint(11, uint64(amount))
	case "_oscillating":
		m = m.bool(6, true).bool(7, on)
	case "_direction":
		m = m.bool(8, true).bool(9, words == directions[1])
	case "_preset":
		m = m.bool(12, true).text(13, words)
	}
	return command(t, 31, m)
}

func writeLight(t *Twin, m message, part string, on bool, amount float64, words string) error {
	switch part {
	case "":
		m = m.bool(2, true).bool(3, on)
	case "_brightness":
		m = m.bool(4, true).float(5, amount/100)
	case "_color_temperature":
		m = m.bool(12, true).float(13, 1e6/max(amount, 1))
	case "_effect":
		m = m.bool(18, true).text(19, words)
	case "_color":
		rgb, err := strconv.ParseUint(words[min(1, len(words)):], 16, 24)
		if err != nil {
			return &twin.Error{Code: 2, Message: "a color is #RRGGBB"}
		}
		// The device keeps the brightest of the three at 1, and how strong the color is by itself.
		red, green, blue := float64(rgb>>16), float64(rgb>>8&255), float64(rgb&255)
		most := max(red, green, blue)
		scale := max(most, 1)
		m = m.bool(20, true).float(21, most/255).bool(6, true).float(7, red/scale).float(8, green/scale).float(9, blue/scale)
	}
	return command(t, 32, m)
}

func writeClimate(t *Twin, m message, part string, amount float64, words string) error {
	switch part {
	case "_mode":
		for i, name := range climateModes {
			if name == words {
				m = m.bool(2, true).uint(3, uint64(i))
			}
		}
	case "_setpoint":
		m = m.bool(4, true).float(5, amount)
	case "_setpoint_low":
		m = m.bool(6, true).float(7, amount)
	case "_setpoint_high":
		m = m.bool(8, true).float(9, amount)
	}
	return command(t, 48, m)
}
