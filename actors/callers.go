package actors

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/inbound"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Callers says who is taken for a twin's device where that calls in.
type Callers struct {
	// From are networks; none: any address will do, where there is a token.
	From []netip.Prefix
	// Token that a webhook has to bring; empty: none.
	Token string
}

// Why explains why a caller is none of the twin's, or "".
func (c *Callers) Why(from netip.Addr, token string) string {
	from = from.Unmap().WithZone("")
	if len(c.From) == 0 && c.Token == "" {
		return "the twin names neither networks nor a token for its callers"
	}
	allowed := len(c.From) == 0
	for _, p := range c.From {
		allowed = allowed || p.Contains(from)
	}
	switch {
	case !allowed:
		return fmt.Sprintf("%s is none of the addresses that the twin's device may have", from)
	case c.Token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(c.Token)) != 1:
		return "the token is missing, or another"
	}
	return ""
}

// Hook gives the callers of a twin whose device comes by webhook, as the twin's record on this node says. ErrNotFound where there is
// no such twin, or it has no webhook.
func (r *Registry) Hook(id string) (*Callers, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	t, err := r.e.readTwin(id)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fmt.Errorf("twin %s: %w", id, ErrNotFound)
	}
	if c, is, err := r.hookOfLogic(t); is || err != nil {
		return c, err
	}
	tr, address, err := r.e.inbound(t)
	if err != nil {
		return nil, err
	}
	if tr == nil || tr.Scheme != drivers.SchemeWebhook {
		return nil, fmt.Errorf("twin %s has no webhook: %w", id, ErrNotFound)
	}
	c := &Callers{}
	if tr.Inbound != nil {
		c.Token = tr.Inbound.Token
	}
	if c.From, err = address.Callers(tr); err != nil {
		return nil, fmt.Errorf("twin %s: %w", id, err)
	}
	return c, nil
}

// hookToken is the setting of a logic with the token that callers bring.
const hookToken = "token"

// hookOfLogic gives the callers of a logic, and whether the twin is one: who has the token that its setting names. A logic without that
// setting has no webhook, and one that was given no token is called by nobody.
func (r *Registry) hookOfLogic(t *pb.Twin) (*Callers, bool, error) {
	s, err := r.e.catalog.forTwin(t)
	if err != nil || s.manifest.Kind != drivers.KindLogic {
		return nil, false, err
	}
	full, err := r.e.fullSettings(t, s)
	if err != nil {
		return nil, true, err
	}
	token, _ := full[hookToken].(string)
	if token == "" {
		return nil, true, fmt.Errorf("logic %s has no webhook, or no token for it: %w", t.Id, ErrNotFound)
	}
	return &Callers{Token: token}, true, nil
}

// Inbound gives the twins whose devices call in by TCP or UDP, as the records on this node say. The error tells of those
// that cannot be served, and does not keep the others out.
func (r *Registry) Inbound() ([]inbound.Twin, error) {
	var all []inbound.Twin
	var errs []error
	for rec, err := range r.store.Scan(tableUses, usePrefix("inbound", ""), "") {
		if err != nil {
			return all, fmt.Errorf("read twins whose devices call in: %w", err)
		}
		id := rec.Key[len(usePrefix("inbound", "")):]
		t, err := r.e.readTwin(id)
		if err != nil || t == nil || t.Stopped {
			errs = append(errs, err)
			continue
		}
		tr, address, err := r.e.inbound(t)
		if err != nil || tr == nil || tr.Scheme == drivers.SchemeWebhook {
			errs = append(errs, err)
			continue
		}
		from, err := address.Callers(tr)
		if err != nil {
			errs = append(errs, fmt.Errorf("twin %s: %w", id, err))
			continue
		}
		if len(from) == 0 {
			errs = append(errs, fmt.Errorf("twin %s: nobody may call in: its address names no ?from=", id))
			continue
		}
		all = append(all, inbound.Twin{ID: id, Scheme: tr.Scheme, Port: address.Port, From: from, Options: *tr,
			Since: t.CreateTime.AsTime().UnixMilli()})
	}
	return all, errors.Join(errs...)
}

// inbound gives the transport of a twin whose device calls in, its settings filled in; nil: it does not.
func (e *Engine) inbound(t *pb.Twin) (*drivers.TransportOptions, *transport.Address, error) {
	s, err := e.catalog.forTwin(t)
	if err != nil {
		return nil, nil, err
	}
	tr := s.via(t.Uri)
	if tr == nil {
		return nil, nil, nil
	}
	switch tr.Scheme {
	case drivers.SchemeWebhook, drivers.SchemeTCPIn, drivers.SchemeUDPIn:
	default:
		return nil, nil, nil
	}
	full, err := e.fullSettings(t, s)
	if err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(full)
	if err != nil {
		return nil, nil, fmt.Errorf("settings of %s: %w", t.Id, err)
	}
	resolved, err := tr.Resolve(text)
	if err != nil {
		return nil, nil, err
	}
	address := &transport.Address{Scheme: tr.Scheme}
	if t.Uri != "" {
		if address, err = transport.ParseAddress(t.Uri, resolved); err != nil {
			return nil, nil, err
		}
	}
	return resolved, address, nil
}
