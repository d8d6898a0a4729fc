package drivers

import (
	"fmt"
	"slices"
)

// deviceOnly are the capabilities that need a device.
var deviceOnly = []string{"send", "request", "publish", "connection"}

// checkLogic looks at what a logic may not have: all that is of a device.
func (m *Manifest) checkLogic() error {
	switch {
	case m.Kind == "":
		return nil
	case m.Kind != KindLogic:
		return bad("kind", "%q is unknown; there is %q", m.Kind, KindLogic)
	case len(m.Transports) > 0:
		return bad("transports", "a logic has no device")
	case m.Scan != nil:
		return bad("scan", "a logic has no devices to find")
	}
	for i, name := range m.Capabilities {
		if slices.Contains(deviceOnly, name) {
			return bad(fmt.Sprintf("capabilities/%d", i), "%q needs a device, which a logic does not have", name)
		}
	}
	return nil
}
