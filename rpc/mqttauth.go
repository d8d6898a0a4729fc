package rpc

import (
	"errors"
	"fmt"
	"slices"

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
		// It may be powered before its twin is made. Let in now, it would keep a grant without topics.
		return mqtt.Grant{}, fmt.Errorf("%w: there is no twin %s yet", ErrForbidden, p.Device)
	}
	if err != nil {
		return mqtt.Grant{}, fmt.Errorf("topics of %s: %w", p.Device, err)
	}
	return grant, nil
}

// Stands says whether a grant that Device gave would be given again: its key is there, has not expired, and has the
// rights and the topics that it had. A connection whose grant does not stand is to be closed; its client may log in
// anew. Where the store cannot be read, the grant stands. Grants without a key stand.
func (k *Keyring) Stands(registry *actors.Registry, g *mqtt.Grant) bool {
	if g == nil || g.Key == "" {
		return true
	}
	p, err := k.principal(g.Key)
	switch {
	case err != nil:
		return true
	case p == nil, !p.expires.IsZero() && !k.now().Before(p.expires):
		return false
	case g.Admin:
		return p.Role == RoleAdmin && p.Project == ""
	case p.Role != RoleDevice || p.Device != g.Twin || p.Project != g.Project:
		return false
	}
	publish, subscribe, err := registry.Topics(g.Twin)
	if err != nil {
		return !errors.Is(err, actors.ErrNotFound)
	}
	return slices.Equal(publish, g.Publish) && slices.Equal(subscribe, g.Subscribe)
}
