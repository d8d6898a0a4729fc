package rpc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
)

// Device checks an MQTT login and says what it may use: a device's key as password of the user that is its twin's id
// gives that twin's topics; any other key, under any user name, what its role may do over MQTT (keyGrant). The error wraps ErrUnauthenticated
// where the credentials are wrong. It reads the local store and does not block for long.
func (k *Keyring) Device(registry *actors.Registry, user string, password []byte) (mqtt.Grant, error) {
	if len(password) > maxToken {
		return mqtt.Grant{}, fmt.Errorf("%w: the password is no API key", ErrUnauthenticated)
	}
	p, err := k.Authenticate(string(password))
	if err != nil {
		return mqtt.Grant{}, err
	}
	if p.Role != RoleDevice {
		return keyGrant(p), nil
	}
	if canonicalID(user) != p.Device {
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
	case g.Twin == "":
		now := keyGrant(p)
		return p.Role != RoleDevice && g.Admin == now.Admin && g.Project == now.Project && slices.Equal(g.Topics, now.Topics) && slices.Equal(g.Read, now.Read)
	case p.Role != RoleDevice || p.Device != g.Twin || p.Project != g.Project:
		return false
	}
	publish, subscribe, err := registry.Topics(g.Twin)
	if err != nil {
		return !errors.Is(err, actors.ErrNotFound)
	}
	return slices.Equal(publish, g.Publish) && slices.Equal(subscribe, g.Subscribe)
}

// keyGrant is what a key that is no device's may do over MQTT. Operators send messages of devices, read and write durable topics, and
// hear what devices say; viewers look at durable topics. A key of one project has what begins with its name.
func keyGrant(p *Principal) mqtt.Grant {
	g := mqtt.Grant{Project: p.Project, Key: p.ID}
	switch {
	case p.Role == RoleAdmin && p.Project == "":
		g.Admin = true
	case p.Role >= RoleOperator && p.Project == "":
		g.Topics = []string{"#"}
	case p.Role >= RoleOperator:
		g.Topics = []string{p.Project + "/#", "topics/" + p.Project + "/#"}
	case p.Role == RoleViewer && p.Project == "":
		g.Read = []string{"topics/#"}
	case p.Role == RoleViewer:
		g.Read = []string{"topics/" + p.Project + "/#"}
	}
	return g
}
