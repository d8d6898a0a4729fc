package actors

import (
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// settingsChanged: a scope sets something else. Those twins look that have settings from it.
func (e *Engine) settingsChanged(c storage.Change) {
	e.layers.changed()
	kind, id, _ := strings.Cut(c.Key, "/")
	switch kind {
	case "driver":
		e.each(func(*entry) turn { return &reconfigure{driver: id} })
	case "zone":
		e.within(id, false)
	case "system":
		e.inSystem(id)
	}
}

// within has the twins in a zone, or in one below it, look at their settings. moved: they may be in other zones than before.
func (e *Engine) within(zone string, moved bool) {
	zones, err := e.registry.zonesWithin(zone)
	if err != nil {
		e.log.Error("zones below "+zone, "err", err)
		return
	}
	e.each(func(*entry) turn {
		return &reconfigure{moved: moved, touches: func(c *config) bool { return slices.Contains(zones, c.zone) }}
	})
}

func (e *Engine) inSystem(id string) {
	e.each(func(*entry) turn {
		return &reconfigure{touches: func(c *config) bool { return slices.Contains(c.systems, id) }}
	})
}

// zoneChanged: a zone may be in another one now, whose settings its twins have, too, or whose rollout, routes and watchers.
func (e *Engine) zoneChanged(c storage.Change) {
	e.derivations.zoneChanged(c)
	e.detectors.regrouped(ProjectOf(c.Key))
	e.layers.changed()
	e.rules.Generation.Add(1) // who is in the zone
	e.within(c.Key, true)
}

// membersChanged: a system may have other members now, which have its settings.
func (e *Engine) membersChanged(c storage.Change) {
	e.derivations.groupsChanged(c)
	e.detectors.regrouped(ProjectOf(c.Key))
	e.layers.changed()
	e.rules.Generation.Add(1)
	e.inSystem(c.Key) // those that it had
	s := &pb.System{}
	if err := proto.Unmarshal(c.Value, s); err != nil {
		e.log.Error("system record", "system", c.Key, "err", err)
		return
	}
	for _, m := range s.Members {
		e.noticed(m.Twin)
	}
}

func (e *Engine) layersLost() {
	e.layers.changed()
	e.twinsLost()
}
