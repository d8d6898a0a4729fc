package replay

import (
	"encoding/json"

	"github.com/polluxhq/pollux/drivers"
)

// effects is what a call wanted changed, as a recording has it.
type effects struct {
	Output        json.RawMessage        `json:"output,omitempty"`
	Pending       bool                   `json:"pending,omitempty"`
	Properties    []property             `json:"properties,omitempty"`
	Memory        json.RawMessage        `json:"memory,omitempty"`
	Events        []event                `json:"events,omitempty"`
	Timers        []drivers.Timer        `json:"timers,omitempty"`
	Describe      json.RawMessage        `json:"describe,omitempty"`
	Discovered    []drivers.Discovery    `json:"discovered,omitempty"`
	Subscriptions []drivers.Subscription `json:"subscriptions,omitempty"`
}

type property struct {
	Name    string          `json:"name"`
	Value   json.RawMessage `json:"value"`
	Time    int64           `json:"time,omitempty"`
	Quality drivers.Quality `json:"quality,omitempty"`
}

type event struct {
	Name string          `json:"name"`
	Data json.RawMessage `json:"data,omitempty"`
}

func effectsOf(e *drivers.Effects) *effects {
	out := &effects{Output: e.Output, Pending: e.Pending, Memory: e.Memory, Timers: e.Timers, Describe: e.Describe,
		Discovered: e.Discovered, Subscriptions: e.Subscriptions}
	for _, c := range e.Changes {
		out.Properties = append(out.Properties, property{c.Property, c.Value, c.Time, c.Quality})
	}
	for _, x := range e.Events {
		out.Events = append(out.Events, event{x.Name, x.Data})
	}
	return out
}

// EffectsJSON gives what a call wanted changed as a recording has it.
func EffectsJSON(e *drivers.Effects) (string, error) {
	text, err := json.Marshal(effectsOf(e))
	return string(text), err
}
