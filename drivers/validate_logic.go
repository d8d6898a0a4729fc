package drivers

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxTopics bounds the topics that a logic reads.
const maxTopics = 16

// deviceOnly are the capabilities that need a device.
var deviceOnly = []string{"send", "request", "publish", "connection"}

var topicName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// checkLogic looks at what a logic has in place of a device.
func (m *Manifest) checkLogic(model *Model) error {
	switch {
	case m.Kind == "":
		if len(m.Topics) > 0 {
			return bad("topics", "only a logic reads topics")
		}
		return nil
	case m.Kind != KindLogic:
		return bad("kind", "%q is unknown; there is %q", m.Kind, KindLogic)
	case len(m.Transports) > 0:
		return bad("transports", "a logic has no device")
	case m.Scan != nil:
		return bad("scan", "a logic has no devices to find")
	case len(m.Topics) > maxTopics:
		return bad("topics", "%d of them, more than %d", len(m.Topics), maxTopics)
	}
	for i, name := range m.Capabilities {
		if slices.Contains(deviceOnly, name) {
			return bad(fmt.Sprintf("capabilities/%d", i), "%q needs a device, which a logic does not have", name)
		}
	}
	for i, name := range m.Topics {
		path := fmt.Sprintf("topics/%d", i)
		for _, found := range placeholder.FindAllStringSubmatch(name, -1) {
			if !model.hasSetting(found[1]) {
				return bad(path, "{%s} is no setting", found[1])
			}
		}
		if plain := placeholder.ReplaceAllString(name, "x"); !topicName.MatchString(plain) {
			return bad(path, "%q is no name of a topic", name)
		}
	}
	return nil
}

// ResolveTopics fills settings (JSON, an object) into the names of the topics that a logic reads. Those that come out empty are left out.
func (m *Manifest) ResolveTopics(settings map[string]any) ([]string, error) {
	var out []string
	for i, name := range m.Topics {
		full, err := fill(name, settings)
		if err != nil {
			return nil, fmt.Errorf("topics/%d: %w", i, err)
		}
		if full = strings.TrimSpace(full); full == "" || slices.Contains(out, full) {
			continue
		}
		if !topicName.MatchString(full) {
			return nil, fmt.Errorf("topics/%d: %q is no name of a topic", i, full)
		}
		out = append(out, full)
	}
	return out, nil
}
