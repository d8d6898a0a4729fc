package transport

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

// Opener opens connections of one scheme. It checks the options, and does not wait for the connection: a wrong address
// is an error at once, a device that does not answer is not.
type Opener func(o Options) (drivers.Conn, error)

// Registry knows how to open a connection by the scheme of its address. It is not changed after it was made.
type Registry struct{ openers map[string]Opener }

// NewRegistry makes a registry of openers by scheme.
func NewRegistry(openers map[string]Opener) *Registry { return &Registry{maps.Clone(openers)} }

// Schemes lists what can be opened, sorted.
func (r *Registry) Schemes() []string { return slices.Sorted(maps.Keys(r.openers)) }

// Open opens a connection by the scheme of its binding's transport.
func (r *Registry) Open(o Options) (drivers.Conn, error) {
	open := r.openers[o.Binding.Transport.Scheme]
	if open == nil {
		return nil, fmt.Errorf("open %q: scheme %q: there are %s", o.Binding.URI, o.Binding.Transport.Scheme, strings.Join(r.Schemes(), ", "))
	}
	return open(o)
}
