package drivers

import (
	"errors"
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/drivers/interfaces"
)

// maxInterfaces bounds what one driver implements.
const maxInterfaces = 32

// checkInterfaces holds the model to the standard interfaces that the manifest names.
func (m *Manifest) checkInterfaces() error {
	if len(m.Interfaces) > maxInterfaces {
		return bad("interfaces", "%d, more than %d", len(m.Interfaces), maxInterfaces)
	}
	for i, name := range m.Interfaces {
		path := fmt.Sprintf("interfaces/%d", i)
		if slices.Index(m.Interfaces, name) != i {
			return bad(path, "%q is there twice", name)
		}
		err := interfaces.Check(name, m.Model)
		var lacks *interfaces.Error
		switch {
		case err == nil:
		case errors.As(err, &lacks) && lacks.Path == "interface":
			return bad(path, "%q %s", name, lacks.Reason)
		case errors.As(err, &lacks):
			return bad(path, "the model does not implement %s: %s %s", name, lacks.Path, lacks.Reason)
		default:
			return bad(path, "%s", err)
		}
	}
	return nil
}
