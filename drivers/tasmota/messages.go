package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// hear takes one message in. It returns the document of an answer to a command (under stat/), or nil. The error refuses
// a message that makes no sense; of topics that the driver does not know it takes anything.
func hear(t *Twin, topic string, payload []byte) (wire.Value, error) {
	prefix, name := ends(topic)
	bare := strings.HasPrefix(name, "POWER") && (len(payload) == 0 || payload[0] != '{' && payload[0] != '[')
	switch {
	case prefix == "tasmota":
		return nil, discovered(t, topic, payload)
	case name == "LWT":
		// The twin's own presence is the transport's affair.
		if t.Settings().Discover {
			present(t, topic, payload)
		}
		return nil, nil
	case bare:
		// The bare state, which follows the same in JSON.
		if n := relayOf(name); n > 0 {
			reportPower(t, n, string(payload))
		}
		return nil, nil
	}
	take := reader(prefix, name)
	doc, err := wire.Parse(payload)
	switch {
	case err == nil && doc.Kind() == wire.Object:
	case take != nil:
		return nil, &twin.Error{Message: name + " holds no JSON object"}
	default:
		return nil, nil // such as stat/TOPIC/LOGGING
	}
	if take != nil {
		take(t, doc)
	}
	if prefix != "stat" {
		return nil, nil
	}
	return doc, nil
}

// reader gives what reads the JSON of a topic; nil: the driver does not know it.
func reader(prefix, name string) func(*Twin, wire.Value) {
	switch {
	case prefix == "tele" && name == "SENSOR":
		return sensors
	case prefix == "tele" && strings.HasPrefix(name, "INFO"):
		return info
	case prefix == "tele" && name == "STATE", name == "RESULT", relayOf(name) > 0:
		return state
	case prefix == "stat" && strings.HasPrefix(name, "STATUS"):
		return status
	}
	return nil
}

// ends gives the first and the last level of a topic.
func ends(topic string) (first, last string) {
	first, _, _ = strings.Cut(topic, "/")
	return first, topic[strings.LastIndexByte(topic, '/')+1:]
}

// answer takes a message that comes while a command is pending, and says whether it decides it.
func answer(t *Twin, frame []byte) (any, error) {
	topic, payload := twin.SplitMessage(frame)
	doc, err := hear(t, topic, payload)
	if err != nil {
		// An error would decide the call, which this message is no answer to.
		t.Log("warn", err.Error())
	}
	if doc == nil {
		return nil, twin.ErrPending
	}
	if said, _ := doc.Get("Command").Text(); said == "Unknown" || said == "Error" {
		return nil, &twin.Error{Code: codeUnknown, Message: "the device answers: command " + strings.ToLower(said)}
	}
	m := t.Memory()
	_, name := ends(topic)
	switch m.Await {
	case awaitAny:
		m.Await = ""
		return doc, nil
	case awaitStatus:
		if name != "STATUS11" {
			return nil, twin.ErrPending
		}
		m.Await = ""
		return nil, nil
	}
	value := answered(doc, m.Await)
	if name != "RESULT" || !value.Exists() {
		return nil, twin.ErrPending
	}
	if said, _ := value.Text(); m.Want != "" && !strings.EqualFold(said, m.Want) {
		return nil, &twin.Error{Code: codeRefused, Message: "the device stays at " + m.Await + " " + said}
	}
	m.Await = ""
	return nil, nil
}

// answered finds the member of an answer that a command waits for; a device with one relay calls it POWER.
func answered(doc wire.Value, await string) wire.Value {
	value := doc.Get(await)
	if value == nil && await == powerKey(1) {
		value = doc.Get("POWER")
	}
	return value
}

func powerKey(n int) string { return "POWER" + strconv.Itoa(n) }

// relayOf gives the number of a relay by its name, POWER or POWER1 …; 0: it is none.
func relayOf(name string) int {
	digits, ok := strings.CutPrefix(name, "POWER")
	if !ok {
		return 0
	}
	if digits == "" {
		return 1
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxRelays || digits[0] == '0' || digits[0] == '+' {
		return 0
	}
	return n
}

func reportPower(t *Twin, n int, said string) {
	var on bool
	switch strings.ToUpper(said) {
	case "ON", "1":
		on = true
	case "OFF", "0":
	default:
		return
	}
	m := t.Memory()
	if n > m.Relays {
		m.Relays = n
	}
	report(t, "power"+strconv.Itoa(n), "b", on)
	if n == 1 {
		t.Report("on", on) // as the standard interface Switchable calls it
	}
}

// state takes what STATE, STATUS11 and RESULT have in common.
func state(t *Twin, doc wire.Value) {
	doc.Each(func(key string, v wire.Value) bool {
		if n := relayOf(key); n > 0 {
			if said, ok := v.Text(); ok {
				reportPower(t, n, said)
			}
			return true
		}
		switch key {
		case "Dimmer":
			reportWhole(t, "dimmer", "n:%", v)
		case "CT":
			reportWhole(t, "ct", "n:mired", v)
		case "White":
			reportWhole(t, "white", "n:%", v)
		case "Color":
			if color, ok := parseColor(v); ok {
				if asked := t.Memory().Color; strings.EqualFold(asked, color) {
					color = asked
				}
				report(t, "color", "s", color)
			}
		case "HSBColor":
			if hsb, ok := v.Text(); ok && len(hsb) <= 11 {
				report(t, "hsb", "s", hsb)
			}
		case "Vcc":
			if volts, ok := v.Float(); ok {
				report(t, "vcc", "n:V", volts)
			}
		case "UptimeSec":
			whole(t, "uptime_s", v)
		case "MqttCount":
			whole(t, "mqtt_count", v)
		case "Uptime":
			if doc.Get("UptimeSec") == nil { // firmware before 6.6
				if s, ok := parseUptime(v); ok {
					t.Report("uptime_s", s)
				}
			}
		case "Wifi":
			whole(t, "wifi_rssi", v.Get("RSSI"))
			whole(t, "wifi_signal", v.Get("Signal"))
		default:
			pressed(t, key, v)
		}
		return true
	})
}

// whole reports a whole number as one of the properties that all devices have.
func whole(t *Twin, name string, v wire.Value) {
	if n, ok := v.Int(); ok {
		t.Report(name, int(n))
	}
}

func reportWhole(t *Twin, name, spec string, v wire.Value) {
	if n, ok := v.Int(); ok {
		report(t, name, spec, int(n))
	}
}

// pressed announces a button or a detached switch: "Button1":{"Action":"SINGLE"}.
func pressed(t *Twin, key string, v wire.Value) {
	if !strings.HasPrefix(key, "Button") && !strings.HasPrefix(key, "Switch") {
		return
	}
	if action, ok := v.Get("Action").Text(); ok {
		if err := t.Emit("pressed", press{snake(key), strings.ToLower(action)}); err != nil {
			t.Log("warn", "event: "+err.Error())
		}
	}
}

// press is the data of the event pressed.
type press struct {
	Input  string `json:"input"`
	Action string `json:"action"`
}

// info takes INFO1 to INFO3: {"Info1":{…}} of newer firmware, or its content bare.
func info(t *Twin, doc wire.Value) {
	doc.Each(func(key string, v wire.Value) bool {
		if strings.HasPrefix(key, "Info") && v.Kind() == wire.Object {
			doc = v
			return false
		}
		return true
	})
	text(t, "module", doc.Get("Module"))
	text(t, "version", doc.Get("Version"))
	text(t, "ip", doc.Get("IPAddress"))
	text(t, "hostname", doc.Get("Hostname"))
	text(t, "restart_reason", doc.Get("RestartReason"))
}

// text reports a string as one of the properties that all devices have.
func text(t *Twin, name string, v wire.Value) {
	if s, ok := v.Text(); ok && len(s) <= 256 {
		t.Report(name, s)
	}
}

// status takes any part of the answer to Status 0, or all of it in one (STATUS0).
func status(t *Twin, doc wire.Value) {
	t.Memory().Unanswered = false
	doc.Each(func(key string, v wire.Value) bool {
		switch key {
		case "Status":
			text(t, "name", v.Get("DeviceName"))
			friendlyNames(t, v.Get("FriendlyName"))
		case "StatusPRM":
			text(t, "restart_reason", v.Get("RestartReason"))
		case "StatusFWR":
			text(t, "version", v.Get("Version"))
		case "StatusNET":
			text(t, "ip", v.Get("IPAddress"))
			text(t, "mac", v.Get("Mac"))
			text(t, "hostname", v.Get("Hostname"))
		case "StatusSNS":
			sensors(t, v)
		case "StatusSTS":
			state(t, v)
		}
		return true
	})
}

// friendlyNames remembers what the relays are called: an array, or a bare string in old firmware.
func friendlyNames(t *Twin, v wire.Value) {
	var names []string
	if s, ok := v.Text(); ok {
		names = []string{s}
	}
	v.Each(func(_ string, v wire.Value) bool {
		s, _ := v.Text()
		names = append(names, strings.ToValidUTF8(s[:min(len(s), 64)], ""))
		return len(names) < maxRelays
	})
	m := t.Memory()
	if len(names) == 0 || slices.Equal(names, m.Names) {
		return
	}
	m.Names = names
	m.changed = true
}
