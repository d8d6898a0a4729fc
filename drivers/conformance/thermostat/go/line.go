package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// line takes what the device says, asked or not.
func line(t *Twin, text string) error {
	word, rest, _ := strings.Cut(text, " ")
	switch word {
	case "STATUS":
		if status(t, rest) {
			return nil
		}
	case "TEMP":
		if v, quality, ok := temperature(rest); ok {
			t.ReportAs("temperature", v, quality, time.Time{})
			return nil
		}
	case "OK":
		if done(t, rest) {
			return nil
		}
	case "ALARM":
		return t.Emit("alarm", Text{rest})
	case "HELLO":
		return hello(t, strings.Fields(rest))
	case "NEIGHBOUR":
		if rest != "" && len(rest) <= 64 {
			return t.Discover(twin.Discovery{Network: "th1", Key: "serial", Value: rest, Name: "TH-1 " + rest, Driver: "thermostat"})
		}
	case "ERR":
		if _, why, ok := strings.Cut(rest, " "); ok {
			t.Log("warn", "device: "+why)
			return nil
		}
	}
	t.Log("warn", "not understood: "+text[:min(len(text), 80)])
	return nil
}

// status takes power=on temp=21.5 set=20.0 hum=45, all of it or nothing.
func status(t *Twin, text string) bool {
	fields := map[string]string{}
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	on := fields["power"] == "on"
	temp, quality, ok := temperature(fields["temp"])
	to, isNumber := number(fields["set"])
	if !on && fields["power"] != "off" || !ok || !isNumber {
		return false
	}
	if text, there := fields["hum"]; there {
		humidity, err := strconv.Atoi(text)
		if err != nil {
			return false
		}
		t.Report("humidity", humidity)
	}
	t.Report("power", on)
	t.ReportAs("temperature", temp, quality, time.Time{})
	t.Report("setpoint", to)
	return true
}

// done takes what is behind OK.
func done(t *Twin, text string) bool {
	what, value, _ := strings.Cut(text, " ")
	switch what {
	case "LOGIN", "BOOST":
		return true
	case "POWER":
		if value == "on" || value == "off" {
			t.Report("power", value == "on")
			return true
		}
	case "SET":
		if to, ok := number(value); ok {
			t.Report("setpoint", to)
			return true
		}
	}
	return false
}

func hello(t *Twin, words []string) error {
	if len(words) < 2 {
		return nil
	}
	for _, option := range words[1:] {
		if option == "humidity" {
			return t.Describe(map[string]any{"properties": map[string]any{"humidity": map[string]any{
				"type": "integer", "title": "Humidity", "unit": "%", "readOnly": true}}})
		}
	}
	return nil
}

// temperature reads 21.5, 21.5? or --; nil is that it is not known.
func temperature(text string) (any, twin.Quality, bool) {
	if text == "--" {
		return nil, twin.Good, true
	}
	text, unsure := strings.CutSuffix(text, "?")
	v, ok := number(text)
	if unsure {
		return v, twin.Bad, ok
	}
	return v, twin.Good, ok
}

// number reads what is written as 21.5 or -3; nothing fancier is one.
func number(text string) (float64, bool) {
	if strings.Trim(text, "-0123456789.") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

func degrees(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
