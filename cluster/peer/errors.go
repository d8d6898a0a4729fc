package peer

import (
	"errors"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
)

// sentinels are the errors that survive the wire, by name, in a fixed order.
type sentinels struct {
	byName map[string]error
	names  []string
}

func newSentinels(more map[string]error) sentinels {
	s := sentinels{byName: map[string]error{
		"not_owner": cluster.ErrNotOwner, "unavailable": cluster.ErrUnavailable, "unknown": cluster.ErrUnknown,
		"overloaded": cluster.ErrOverloaded, "cycle": cluster.ErrCycle, "deadline": cluster.ErrDeadline, "selector": cluster.ErrSelector,
		"too_large": ErrTooLarge, "unsupported": ErrUnsupported,
	}}
	for name, err := range more {
		s.byName[name] = err
	}
	for name := range s.byName {
		s.names = append(s.names, name)
	}
	sort.Strings(s.names)
	return s
}

// maxErrorText bounds the text of an error on the wire, in bytes.
const maxErrorText = 4096

// failureOf prepares an error for the wire. detail is the message that goes along, nil for none.
func (p *Peers) failureOf(err error) (f failure, detail proto.Message) {
	f.text = strings.ToValidUTF8(err.Error(), "?")
	if len(f.text) > maxErrorText {
		f.text = strings.ToValidUTF8(f.text[:maxErrorText], "")
	}
	for _, name := range p.sentinels.names {
		if errors.Is(err, p.sentinels.byName[name]) {
			f.names = append(f.names, name)
		}
	}
	var other *cluster.NotOwnerError
	if errors.As(err, &other) {
		f.owner, f.ownerSince = other.Node, other.Since
	}
	if p.o.Details.To != nil {
		detail = p.o.Details.To(err)
	}
	return f, detail
}

// remoteError is what another node answered.
type remoteError struct {
	text  string
	wraps []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.wraps }

// errorOf gives back what failureOf took apart, as far as this node knows its names.
func (p *Peers) errorOf(f *failure, detail proto.Message) error {
	e := &remoteError{text: f.text}
	for _, name := range f.names {
		if known := p.sentinels.byName[name]; known != nil {
			e.wraps = append(e.wraps, known)
		}
	}
	if f.owner != "" || f.ownerSince != 0 {
		e.wraps = append(e.wraps, &cluster.NotOwnerError{Node: f.owner, Since: f.ownerSince})
	}
	if detail != nil && p.o.Details.From != nil {
		if err := p.o.Details.From(f.text, detail); err != nil {
			e.wraps = append(e.wraps, err)
		}
	}
	return e
}
