package actors

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/derive"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// formula compiles a text, once.
func (d *derivations) formula(text string) (*derive.Formula, error) {
	d.mu.RLock()
	c := d.formulas[text]
	d.mu.RUnlock()
	if c == nil {
		c = &compiled{}
		c.f, c.err = derive.Compile(text)
		d.mu.Lock()
		if len(d.formulas) >= 1000 {
			clear(d.formulas)
		}
		d.formulas[text] = c
		d.mu.Unlock()
	}
	return c.f, c.err
}

// texts are a twin's formulas by their properties: its own, and those of its model.
func (d *derivations) texts(t *pb.Twin) map[string]string {
	all := maps.Clone(t.Derived)
	if s, err := d.e.catalog.forTwin(t); err == nil && s.bare() {
		for _, p := range s.thing.Derived {
			if all == nil {
				all = map[string]string{}
			}
			all[p.Name] = p.Derived
		}
	}
	return all
}

// build finds out what a twin computes, and of whom; nil: nothing.
func (d *derivations) build(t *pb.Twin) *derived {
	texts := d.texts(t)
	if len(texts) == 0 {
		return nil
	}
	x := &derived{id: t.Id}
	sources := 0
	for _, property := range slices.Sorted(maps.Keys(texts)) {
		y := &derivation{property: property}
		x.list = append(x.list, y)
		var err error
		if y.formula, err = d.formula(texts[property]); err != nil {
			y.err = err.Error()
			continue
		}
		for i := range y.formula.Aggregates {
			set, err := d.members(t, x, &y.formula.Aggregates[i].Set, maxSources-sources)
			if err != nil {
				y.err = err.Error()
				set = nil
			}
			if y.formula.Aggregates[i].Property == "" { // else what is not there says nothing
				set = d.there(set, &x.absent)
			}
			sources += len(set)
			y.sets = append(y.sets, set)
		}
	}
	return x
}

var errManySources = fmt.Errorf("it is computed of more than %d twins", maxSources)

// members are the twins of a set, without the one that computes.
func (d *derivations) members(t *pb.Twin, x *derived, s *derive.Set, limit int) (ids []string, err error) {
	project, r := ProjectOf(t.Id), d.e.registry
	switch s.Kind {
	case derive.Named:
		for _, name := range s.Args {
			ids = append(ids, within(project, name))
		}
	case derive.Related:
		kind, against := strings.CutPrefix(s.Args[0], "-")
		var ends []end
		if ends, err = r.related(end{"twin", t.Id}, kind, against, limit+1); err != nil {
			return nil, err
		}
		for _, y := range ends {
			if y.kind == "twin" {
				ids = append(ids, y.id)
			}
		}
	case derive.InSystem:
		x.named = true
		ids, err = d.inSystems(t.Id, within(project, s.Of), s)
	case derive.InZone:
		x.named = x.named || len(s.Args) > 0
		zone := t.Zone
		if s.Of != "" {
			zone = within(project, s.Of)
		}
		if zone != "" {
			x.zones = append(x.zones, zone)
			ids, err = d.inZone(zone, s.Args, limit+1, nil)
		}
	}
	slices.Sort(ids)
	ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == t.Id || ProjectOf(id) != project })
	if err == nil && len(ids) > limit {
		return nil, errManySources
	}
	return ids, err
}

// there are those of some ids that are twins; the others are added to absent.
func (d *derivations) there(ids []string, absent *[]string) []string {
	return slices.DeleteFunc(ids, func(id string) bool {
		gone := !d.e.known(id)
		if gone {
			*absent = append(*absent, id)
		}
		return gone
	})
}

// inZone are the twins in a zone and those below it.
func (d *derivations) inZone(zone string, models []string, limit int, ids []string) ([]string, error) {
	scan := func(kind string, fn func(id string) error) error {
		prefix := usePrefix(kind, zone)
		for rec, err := range d.e.store.Scan(tableUses, prefix, "") {
			if err == nil {
				err = fn(strings.TrimPrefix(rec.Key, prefix))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err := scan("zone", func(id string) error {
		if len(models) > 0 {
			t, err := d.e.readTwin(id)
			if err != nil || t == nil || !matchFilter(&pb.TwinFilter{Model: models[0]}, t, d.e.catalog) {
				return err
			}
		}
		if ids = append(ids, id); len(ids) > limit {
			return errManySources
		}
		return nil
	})
	if err == nil {
		err = scan("zone-parent", func(below string) (err error) {
			ids, err = d.inZone(below, models, limit, ids)
			return err
		})
	}
	return ids, err
}

// inSystems are the members of a system, or where it is empty of all that the twin is in.
func (d *derivations) inSystems(id, system string, s *derive.Set) (ids []string, err error) {
	systems := []string{system}
	if s.Of == "" {
		if systems, err = d.e.layers.systemsOf(id); err != nil {
			return nil, err
		}
	}
	want := ""
	if len(s.Args) > 0 {
		want = s.Args[0]
	}
	for _, name := range systems {
		x, err := d.e.registry.GetSystem(name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, m := range x.Members {
			if meant(want, m.Name) {
				ids = append(ids, m.Twin)
			}
		}
	}
	return ids, nil
}
