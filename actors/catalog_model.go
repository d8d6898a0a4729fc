package actors

import (
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/actors/model"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// tableThings: id → pb.Model. (The table `model` holds what drivers describe of their units.)
const tableThings storage.Table = "thing"

// modelRef begins the reference of a twin without a driver: what follows is its model's id. No driver's name has a colon.
const modelRef = "model:"

// bare says whether a twin of the spec has no driver: nothing is loaded or called, no command runs, and the messages of its
// device become properties as its model says.
func (s *spec) bare() bool { return s != nil && s.thing != nil }

// bareSpec makes the spec of a model: all but the module that a driver's version has.
func bareSpec(m *pb.Model) (*spec, error) {
	thing, err := model.Parse([]byte(m.ThingJson))
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m.Id, err)
	}
	return &spec{name: m.Id, digest: fmt.Sprintf("%s%s@%d", modelRef, m.Id, m.Revision), title: thing.Title, thing: thing, model: thing.Model,
		manifest: drivers.Manifest{Model: []byte(m.ThingJson)}}, nil
}

// resolveModel is resolve of a model's id.
func (c *catalog) resolveModel(ref string) (*spec, error) {
	c.mu.Lock()
	change := c.change
	c.mu.Unlock()
	m, err := get(c.store, tableThings, strings.TrimPrefix(ref, modelRef), &pb.Model{})
	if err != nil {
		return nil, err
	}
	m.Id = strings.TrimPrefix(ref, modelRef)
	s, err := bareSpec(m)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.specs[s.digest]; known != nil {
		s = known
	} else {
		s.tally = c.tallyLocked(s.name, "")
		c.specs[s.digest] = s
	}
	if c.change == change {
		c.resolved[ref] = s
	}
	return s, nil
}
