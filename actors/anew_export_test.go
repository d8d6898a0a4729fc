package actors

import "context"

// LoseSource has a twin that computes a property hear late that one of those that it computes it of was deleted.
func (e *Engine) LoseSource(subscriber, source, property string) {
	e.lose(follow{subscriber: subscriber, system: derivedSystem, name: source, property: property})
}

// DeleteZoneWhile deletes a zone, and has something happen between the two steps of that.
func (r *Registry) DeleteZoneWhile(ctx context.Context, id string, meanwhile func()) error {
	return r.deleteUnused(ctx, "zone", tableZones, id, func() ([]string, error) {
		meanwhile()
		return nil, nil
	}, nil)
}
