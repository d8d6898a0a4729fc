package actors

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

// Secrets are settings that are never shown. Their names may lead into objects, parts joined by slashes.

// visitSecret calls fn with the object that holds a secret and its key in it, if it is there.
func visitSecret(settings map[string]any, name string, fn func(in map[string]any, key string)) {
	for {
		first, rest, nested := strings.Cut(name, "/")
		if !nested {
			if v, ok := settings[name]; ok && v != nil {
				fn(settings, name)
			}
			return
		}
		inner, ok := settings[first].(map[string]any)
		if !ok {
			return
		}
		settings, name = inner, rest
	}
}

// secretsOf lists the texts that must not be shown.
func secretsOf(m *drivers.Model, settings map[string]any) []string {
	var out []string
	for _, name := range m.Secrets() {
		visitSecret(settings, name, func(in map[string]any, key string) {
			if text := fmt.Sprint(in[key]); text != "" {
				out = append(out, text)
			}
		})
	}
	return out
}

// maskSecrets replaces the secrets by "***", in place.
func maskSecrets(m *drivers.Model, settings map[string]any) {
	for _, name := range m.Secrets() {
		visitSecret(settings, name, func(in map[string]any, key string) { in[key] = secretMask })
	}
}

// noSecret is why a setting that says "***" is refused.
func noSecret(path string) error {
	return invalid(path, "is \"***\", and there is none to keep: give it")
}

// unmaskSecrets puts the old secrets of the names where the new settings say "***", in place, and gives those that there are none of.
func unmaskSecrets(names []string, settings, old map[string]any) (none []string) {
	for _, name := range names {
		visitSecret(settings, name, func(in map[string]any, key string) {
			if in[key] != secretMask {
				return
			}
			delete(in, key)
			visitSecret(old, name, func(was map[string]any, _ string) { in[key] = was[key] })
			if in[key] == nil {
				none = append(none, name)
			}
		})
	}
	return none
}

// sealedAlready says whether all secrets among stored settings are sealed.
func sealedAlready(m *drivers.Model, stored map[string]any) bool {
	all := true
	for _, name := range m.Secrets() {
		visitSecret(stored, name, func(in map[string]any, key string) { all = all && isSealed(in[key]) })
	}
	return all
}

// errNoTopic: a setting that a filter needs is not given; the filter is left out.
var errNoTopic = errors.New("no such topic")

// substitute fills the {NAME} of an MQTT filter with settings. A filter whose setting is absent, false or empty is left out
// (errNoTopic); one that is true stands for nothing.
func substitute(filter string, settings map[string]any) (string, error) {
	var out strings.Builder
	rest := filter
	for {
		before, after, found := strings.Cut(rest, "{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", invalid("/manifest/transport", "%q has an open brace", filter)
		}
		rest = tail
		switch v := settings[name].(type) {
		case nil:
			return "", errNoTopic
		case bool:
			if !v {
				return "", errNoTopic
			}
		case string:
			switch {
			case v == "":
				return "", errNoTopic
			case strings.ContainsAny(v, "+#\x00") || strings.HasPrefix(v, "/") || strings.HasSuffix(v, "/"):
				return "", invalid("/settings/"+name, "%q cannot be part of an MQTT topic", v)
			}
			out.WriteString(v)
		case float64:
			b, _ := json.Marshal(v) // a decoded number always marshals
			out.Write(b)
		default:
			return "", invalid("/settings/"+name, "not a plain value, as %q needs", filter)
		}
	}
}

// filters fills in several filters, and leaves out those that are not wanted.
func filters(templates []string, settings map[string]any) ([]string, error) {
	var out []string
	for _, f := range templates {
		filter, err := substitute(f, settings)
		if errors.Is(err, errNoTopic) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, filter)
	}
	return out, nil
}

// bindings are the MQTT filters of a driver's version with a twin's settings: what its device publishes, its will
// included, what the driver publishes to the device, and the will's topic, or "".
func (s *spec) bindings(uri string, settings map[string]any) (subscribe, publish []string, will string, err error) {
	tr := s.via(uri)
	if !tr.OwnBroker(uri) {
		return nil, nil, "", nil
	}
	if subscribe, err = filters(tr.Subscribe, settings); err != nil {
		return nil, nil, "", err
	}
	if publish, err = filters(tr.Publish, settings); err != nil {
		return nil, nil, "", err
	}
	if tr.Will != nil {
		topics, err := filters([]string{tr.Will.Topic}, settings)
		if err != nil {
			return nil, nil, "", err
		}
		if len(topics) == 1 && topics[0] != "" {
			will = topics[0]
			subscribe = append(subscribe, will)
		}
	}
	return subscribe, publish, will, nil
}

// asInvalid makes what a model refuses an InvalidError.
func asInvalid(base string, err error) error {
	var s *drivers.SchemaError
	switch {
	case errors.As(err, &s):
		return &InvalidError{Path: base + s.Path, Reason: s.Reason}
	case errors.Is(err, drivers.ErrUnknown), errors.Is(err, drivers.ErrReadOnly):
		return &InvalidError{Path: base, Reason: err.Error()}
	}
	return err
}

// apply gives settings with defaults, decoded and as JSON.
func (s *spec) apply(given []byte) (full map[string]any, text []byte, err error) {
	if text, err = s.model.ValidateSettings(given); err != nil {
		return nil, nil, asInvalid("/settings", err)
	}
	if err := json.Unmarshal(text, &full); err != nil {
		return nil, nil, fmt.Errorf("settings: %w", err)
	}
	return full, text, nil
}

// applyMap is apply of decoded settings.
func (s *spec) applyMap(given map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	full, _, err := s.apply(raw)
	return full, err
}

// mergePatches gives one merge patch that does what old and then patch do; old may be empty. A null stays, because it
// removes from what is patched.
func mergePatches(old, patch []byte) ([]byte, error) {
	var o, p map[string]any
	if err := json.Unmarshal(patch, &p); err != nil || p == nil {
		return nil, fmt.Errorf("model patch: not an object")
	}
	if len(old) == 0 {
		return patch, nil
	}
	if err := json.Unmarshal(old, &o); err != nil {
		return nil, fmt.Errorf("model patch: %w", err)
	}
	return json.Marshal(mergeInto(o, p))
}

func mergeInto(old, patch map[string]any) map[string]any {
	for k, v := range patch {
		pm, isMap := v.(map[string]any)
		om, wasMap := old[k].(map[string]any)
		if isMap && wasMap {
			old[k] = mergeInto(om, pm)
		} else {
			old[k] = v
		}
	}
	return old
}
