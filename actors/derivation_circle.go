package actors

import (
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// circlesLocked stops the derivations of x that depend on themselves, and gives the twins whose circle may have been opened.
func (d *derivations) circlesLocked(x *derived) (again []string) {
	if x == nil {
		return nil
	}
	for _, y := range x.list {
		if path := d.circle(x, y); path != nil && y.err == "" {
			y.err = "it depends on itself: " + strings.Join(path, " ← ")
			for _, step := range path {
				if id, _, _ := strings.Cut(step, "."); id != NameOf(x.id) {
					again = append(again, ProjectOf(x.id)+"/"+id)
				}
			}
		}
	}
	return slices.DeleteFunc(again, func(id string) bool { return d.knowsCircle(id) })
}

// knowsCircle says whether the twin is stopped already.
func (d *derivations) knowsCircle(id string) bool {
	return d.byTwin[id] == nil || d.byTwin[id].stopped()
}

// circle gives the way on which a derivation depends on itself, or nil.
func (d *derivations) circle(x *derived, y *derivation) []string {
	seen := map[*derivation]bool{}
	var walk func(a *derived, b *derivation) []string
	walk = func(a *derived, b *derivation) []string {
		step := func(id, property string) []string {
			c := d.byTwin[id]
			if id == x.id {
				c = x
			}
			if c == nil {
				return nil
			}
			for _, e := range c.list {
				if e.property != property {
					continue
				}
				if e == y {
					return []string{NameOf(id) + "." + property}
				}
				if !seen[e] {
					seen[e] = true
					if way := walk(c, e); way != nil {
						return append([]string{NameOf(id) + "." + property}, way...)
					}
				}
			}
			return nil
		}
		if b.formula == nil {
			return nil
		}
		for _, e := range a.list {
			if b.formula.Uses().Reads(e.property) {
				if way := step(a.id, e.property); way != nil {
					return way
				}
			}
		}
		for i, set := range b.sets {
			for _, source := range set {
				if way := step(source, b.formula.Aggregates[i].Property); way != nil {
					return way
				}
			}
		}
		return nil
	}
	if way := walk(x, y); way != nil {
		return append([]string{NameOf(x.id) + "." + y.property}, way...)
	}
	return nil
}

// check says why a twin cannot have the derived properties that it wants.
func (d *derivations) check(t *pb.Twin) error {
	s, err := d.e.catalog.forTwin(t)
	for property, text := range t.Derived {
		path := "/derived/" + property
		if _, err := d.formula(text); err != nil {
			return invalid(path, "%v", err)
		}
		if err == nil && s.model.Property(property) != nil {
			return invalid(path, "the twin has a property of that name by its %s", map[bool]string{true: "model", false: "driver"}[s.bare()])
		}
	}
	x := d.build(t)
	if x == nil {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, y := range x.list {
		if way := d.circle(x, y); way != nil {
			return invalid("/derived/"+y.property, "it would depend on itself: %s", strings.Join(way, " ← "))
		}
	}
	return nil
}

// checkModel says what is wrong with the formulas of a model.
func (d *derivations) checkModel(m *pb.Model) error {
	s, err := bareSpec(m)
	if err != nil {
		return err
	}
	x := &derived{id: m.Id}
	for _, p := range s.thing.Derived {
		f, err := d.formula(p.Derived)
		if err != nil {
			return invalid("/thing_json/properties/"+p.Name+"/pollux:derived", "%v", err)
		}
		x.list = append(x.list, &derivation{property: p.Name, formula: f})
	}
	for _, y := range x.list {
		if way := d.circle(x, y); way != nil {
			return invalid("/thing_json/properties/"+y.property+"/pollux:derived", "it would depend on itself: %s", strings.Join(way, " ← "))
		}
	}
	return nil
}
