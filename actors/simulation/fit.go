package simulation

import (
	"github.com/polluxhq/pollux/actors/model"
	"github.com/polluxhq/pollux/drivers/scenario"
)

// Fitter has a player's twins say their values as their models have them. There is one copy of the values for each model, and not for each twin.
type Fitter struct {
	s      *scenario.Scenario
	player *scenario.Player
	values map[string]map[string]*scenario.Value // by model
}

// NewFitter gives one for a scenario and its player.
func NewFitter(s *scenario.Scenario, p *scenario.Player) *Fitter {
	return &Fitter{s: s, player: p, values: map[string]map[string]*scenario.Value{}}
}

// Fit has a twin, by its place in the scenario, say its values as its model has them. thing gives the model's Thing Model, and is asked once for each model;
// without one the values stay as the file has them, as they do where the model is empty: the twin has a driver.
func (f *Fitter) Fit(twin int, id string, thing func(model string) string) {
	values := f.values[id]
	if values == nil {
		values = f.s.Values
		if id != "" {
			if m, err := model.Parse([]byte(thing(id))); err == nil {
				values = fitted(f.s, m)
			}
		}
		f.values[id] = values
	}
	f.player.Fit(twin, values)
}

func fitted(s *scenario.Scenario, m *model.Model) map[string]*scenario.Value {
	return s.Fit(func(property string) (scenario.Place, bool) {
		path, convert, ok := m.Sent(property)
		return scenario.Place{Path: path, Convert: convert, Text: ok && m.Property(property).Type == "string"}, ok
	})
}
