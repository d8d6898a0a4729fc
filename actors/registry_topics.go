package actors

import (
	"fmt"
	"slices"
)

// Topics gives the MQTT filters of a twin's device, as the twin's settings make them: where it may publish (what the twin
// listens to, and the driver's device_publish) and what it may subscribe to (where the driver publishes, and its
// device_subscribe). Both are empty where the twin's driver does not speak MQTT. ErrNotFound where there is no such twin.
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
	if publish, subscribe, _, err = s.bindings(settings); err != nil {
		return nil, nil, err
	}
	if tr := s.manifest.Transport; tr != nil && tr.Scheme == "mqtt" {
		morePublish, err := filters(tr.DevicePublish, settings)
		if err != nil {
			return nil, nil, err
		}
		moreSubscribe, err := filters(tr.DeviceSubscribe, settings)
		if err != nil {
			return nil, nil, err
		}
		publish, subscribe = append(publish, morePublish...), append(subscribe, moreSubscribe...)
	}
	return distinct(publish), distinct(subscribe), nil
}

func distinct(filters []string) []string {
	slices.Sort(filters)
	return slices.Compact(filters)
}
