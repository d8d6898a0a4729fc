package actors

import (
	"fmt"
	"slices"
)

// Topics gives the MQTT filters of a twin, as its settings make them: what its device publishes and what its device
// listens to. Both are empty where the twin's driver does not speak MQTT. ErrNotFound where there is no such twin.
func (r *Registry) Topics(id string) (publish, subscribe []string, err error) {
	if id, err = CanonicalID(id); err != nil {
		return nil, nil, err
	}
	t, err := r.e.readTwin(id)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, fmt.Errorf("twin %s: %w", id, ErrNotFound)
	}
	s, err := r.e.catalog.resolve(t.Driver)
	if err != nil {
		return nil, nil, err
	}
	settings, err := s.applyMap(t.Settings.AsMap())
	if err != nil {
		return nil, nil, err
	}
	publish, subscribe, _, err = s.bindings(settings)
	slices.Sort(publish)
	return slices.Compact(publish), subscribe, err
}
