package drivers

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Resolve fills the settings (JSON, an object) into the options' {NAME}s; MQTT filters are left as they are, since those of
// absent settings are dropped by whoever subscribes. Options without any are given back themselves, so that twins share them.
func (t *TransportOptions) Resolve(settings []byte) (*TransportOptions, error) {
	if t == nil || !t.templated() {
		return t, nil
	}
	values := map[string]any{}
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &values); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
	}
	full, err := t.clone()
	if err != nil {
		return nil, err
	}
	for path, text := range full.texts() {
		if *text, err = fill(*text, values); err != nil {
			return nil, fmt.Errorf("transport/%s: %w", path, err)
		}
	}
	full.PerCommand, full.PerCommandIf = full.PerCommand || full.PerCommandIf == "true", ""
	if full.HTTP != nil {
		for name, text := range full.HTTP.Headers {
			if full.HTTP.Headers[name], err = fill(text, values); err != nil {
				return nil, fmt.Errorf("transport/http/headers/%s: %w", name, err)
			}
		}
	}
	if full.UDP != nil {
		full.UDP.Peers = given(full.UDP.Peers)
	}
	if full.Inbound != nil {
		full.Inbound.From = given(full.Inbound.From)
	}
	return full, nil
}

// Resolve fills the settings in: Hosts are those of the manifest itself then, and Named those of the settings.
func (h *HTTPReach) Resolve(settings []byte) (*HTTPReach, error) {
	if h == nil {
		return nil, nil
	}
	full, err := (&TransportOptions{HTTP: &h.HTTPOptions, TLS: h.TLS}).Resolve(settings)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	values := map[string]any{}
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &values); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
	}
	out := &HTTPReach{HTTPOptions: *full.HTTP, TLS: full.TLS}
	for _, host := range h.Hosts {
		if !strings.Contains(host, "{") {
			out.Hosts = append(out.Hosts, host)
			continue
		}
		if host, err = fill(host, values); err != nil {
			return nil, fmt.Errorf("http/hosts: %w", err)
		}
		if host != "" {
			out.Named = append(out.Named, host)
		}
	}
	return out, nil
}

// Equal says whether two resolved reaches are the same.
func (h *HTTPReach) Equal(o *HTTPReach) bool { return h == o || reflect.DeepEqual(h, o) }

// Equal says whether two resolved options reach a device in the same way.
func (t *TransportOptions) Equal(o *TransportOptions) bool { return t == o || reflect.DeepEqual(t, o) }

func (t *TransportOptions) templated() bool {
	for _, text := range t.texts() {
		if strings.Contains(*text, "{") {
			return true
		}
	}
	return t.HTTP != nil && slices.ContainsFunc(slices.Collect(maps.Values(t.HTTP.Headers)), func(s string) bool { return strings.Contains(s, "{") })
}

func (t *TransportOptions) clone() (*TransportOptions, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	c := &TransportOptions{}
	return c, json.Unmarshal(text, c)
}

func given(list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}

// fill puts settings into a text. An absent one is empty.
func fill(text string, settings map[string]any) (string, error) {
	var failed error
	out := placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := found[1 : len(found)-1]
		switch v := settings[name].(type) {
		case nil:
			return ""
		case string:
			return v
		case bool, float64:
			b, _ := json.Marshal(v) // these always marshal
			return string(b)
		default:
			failed = fmt.Errorf("the setting %s is not a plain value", name)
			return ""
		}
	})
	return out, failed
}
