package actors

import (
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/model"
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
		return nil, nil, ErrNotFound
	}
	s, err := r.e.catalog.resolve(t.Driver)
	if err != nil {
		return nil, nil, err
	}
	settings, err := s.settings.Apply(t.Settings.AsMap())
	if err != nil {
		return nil, nil, asInvalid(err)
	}
	ix, err := indexes(t, s, settings)
	if err != nil {
		return nil, nil, err
	}
	for key := range ix[tableTopics] {
		filter, _, _ := strings.Cut(key, "\x00")
		publish = append(publish, filter)
	}
	slices.Sort(publish)
	if tr := s.manifest.Transport; tr != nil && tr.Scheme == "mqtt" {
		for _, f := range tr.Publish {
			filter, err := model.Substitute(f, settings)
			if err != nil {
				return nil, nil, asInvalid(err)
			}
			if filter != "" {
				subscribe = append(subscribe, filter)
			}
		}
	}
	return publish, subscribe, nil
}
