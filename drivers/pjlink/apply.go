package main

import (
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// apply reports what an answer says. A value that makes no sense is passed over.
func apply(t *Twin, l line) {
	switch l.command {
	case "POWR":
		applyPower(t, l.value)
	case "INPT":
		if isInput(l.value) {
			t.Report("input", inputName(l.value, t.Settings().Inputs))
		}
	case "AVMT":
		if video, audio, ok := parseMute(l.value); ok {
			t.Report("mute", video && audio)
			t.Report("mute_video", video)
			t.Report("mute_audio", audio)
		}
	case "LAMP":
		if hours, lit, ok := parseLamps(l.value); ok {
			t.Report("lamp_hours", hours)
			t.Report("lamp_on", lit)
		}
	case "ERST":
		applyErrors(t, l.value)
	case "INST":
		if codes := parseInputs(l.value); len(codes) > 0 {
			t.Memory().Inputs = codes
			describe(t)
		}
	case "NAME", "INF1", "INF2", "INFO", "CLSS":
		t.Report(factNames[l.command], strings.ToValidUTF8(l.value, "\uFFFD"))
	}
}

// factNames are the properties of what never changes, by the command that asks for it.
var factNames = map[string]string{
	"NAME": "name", "INF1": "manufacturer", "INF2": "model", "INFO": "info", "CLSS": "pjlink_class",
}

func applyPower(t *Twin, value string) {
	state, ok := parsePower(value)
	if !ok {
		return
	}
	before := powerState(t)
	t.Report("power_state", state)
	t.Report("power", state == "on" || state == "warming")
	switch {
	case state == "warming" || state == "cooling":
		if err := t.After("settle", settleTime, nil); err != nil {
			t.Log("warn", "settle timer: "+err.Error())
		}
	case state == "on" && before != "on":
		// Now it tells what it refused to tell before. The caller says what is queued.
		m := t.Memory()
		m.Queue = append(append(takeLater(m), m.Queue...), whenOn...)
	}
	if state == "off" || state == "cooling" {
		t.Memory().Later = nil
	}
}

func applyErrors(t *Twin, value string) {
	states, ok := parseErrors(value)
	if !ok {
		return
	}
	healthy := true
	for i, state := range states {
		name := "error_" + parts[i]
		if before, known := t.Property(name).Text(); known && before != state {
			if err := t.Emit("part_changed", partChanged{parts[i], state}); err != nil {
				t.Log("warn", "event: "+err.Error())
			}
		}
		t.Report(name, state)
		healthy = healthy && state != "error"
	}
	t.Report("healthy", healthy)
}

// partChanged is the data of the event of that name.
type partChanged struct {
	Part  string `json:"part"`
	State string `json:"state"`
}

// describe narrows the model to what this projector has: its inputs by name, and no lamp where it knows of none.
func describe(t *Twin) {
	m := t.Memory()
	if len(m.Inputs) == 0 && len(m.Lacks) == 0 {
		return
	}
	properties := map[string]any{}
	patch := map[string]any{"properties": properties}
	if len(m.Inputs) > 0 {
		names := make([]string, len(m.Inputs))
		for i, code := range m.Inputs {
			names[i] = inputName(code, t.Settings().Inputs)
		}
		properties["input"] = map[string]any{"enum": names}
		patch["actions"] = map[string]any{"input": map[string]any{"input": map[string]any{"enum": names}}}
	}
	for _, command := range m.Lacks {
		switch command {
		case "LAMP":
			properties["lamp_hours"], properties["lamp_on"] = wire.Value("null"), wire.Value("null")
		case "INFO":
			properties["info"] = wire.Value("null")
		}
	}
	if err := t.Describe(patch); err != nil {
		t.Log("warn", "describe: "+err.Error())
	}
}
