package rpc

import (
	"errors"
	"fmt"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
)

// Device checks an MQTT login and says what it may use: a device's key as password of the user that is its twin's id
// gives that twin's topics; an administrator's key gives all, under any user name. The error wraps ErrUnauthenticated
// where the credentials are wrong. It reads the local store and does not block for long.
func (k *Keyring) Device(registry *actors.Registry, user string, password []byte) (mqtt.Grant, error) {
	if len(password) > maxToken {
		return mqtt.Grant{}, fmt.Errorf("%w: the password is no API key", ErrUnauthenticated)
	}
	p, err := k.Authenticate(string(password))
	if err != nil {
		return mqtt.Grant{}, err
	}
	switch {
	case p.Role == RoleAdmin && p.Project == "":
		return mqtt.Grant{Admin: true, Key: p.ID}, nil
	case p.Role != RoleDevice:
		return mqtt.Grant{}, fmt.Errorf("%w: key %q is no device's: make one with `pollux key create --device TWIN`", ErrForbidden, p.Name)
	case canonicalID(user) != p.Device:
		return mqtt.Grant{}, fmt.Errorf("%w: the key belongs to the device of another user name", ErrUnauthenticated)
	}
	grant := mqtt.Grant{Project: p.Project, Twin: p.Device, Key: p.ID}
	grant.Publish, grant.Subscribe, err = registry.Topics(p.Device)
	if errors.Is(err, actors.ErrNotFound) {
		// A device may be powered before its twin is made; it may say nothing yet.
		return grant, nil
	}
	if err != nil {
		return mqtt.Grant{}, fmt.Errorf("topics of %s: %w", p.Device, err)
	}
	return grant, nil
}
