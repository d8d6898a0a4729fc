package actors

import (
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// node is a derivation of a twin: what circles go through.
type node struct {
	x *derived
	y *derivation
}

func (n node) String() string { return NameOf(n.x.id) + "." + n.y.property }

// circlesLocked stops the derivations of x that depend on themselves, and gives the twins of others on the same circles that are not stopped yet.
func (d *derivations) circlesLocked(x *derived) (again []string) {
	if x == nil {
		return nil
	}
	for _, y := range x.list {
		way, all := d.circle(x, y)
		if way == nil || y.err != "" {
			continue
		}
		y.err = "it depends on itself: " + wayOf(way)
		for _, n := range all {
			if n.x.id != x.id && n.y.err == "" {
				again = append(again, n.x.id)
			}
		}
	}
	return again
}

func wayOf(way []node) string {
	steps := make([]string, len(way))
	for i, n := range way {
		steps[i] = n.String()
	}
	return strings.Join(steps, " ← ")
}

// circle gives the shortest way on which a derivation of x depends on itself, and all derivations on any such way; nil: it does not. x stands
// for what is known of its twin.
func (d *derivations) circle(x *derived, y *derivation) (way, all []node) {
	by := map[*derivation]node{}        // by whom each was found
	readers := map[*derivation][]node{} // by what they read
	for queue := []node{{x, y}}; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		for _, m := range d.reads(n, x) {
			readers[m.y] = append(readers[m.y], n)
			_, found := by[m.y]
			switch {
			case m.y == y && way == nil:
				for way = []node{m}; n.y != y; n = by[n.y] {
					way = append(way, n)
				}
				way = append(way, m)
				slices.Reverse(way)
				n = queue[0]
			case m.y != y && !found:
				by[m.y] = n
				queue = append(queue, m)
			}
		}
	}
	if way == nil {
		return nil, nil
	}
	there := map[*derivation]bool{}
	for queue := []node{{x, y}}; len(queue) > 0; queue = queue[1:] {
		for _, n := range readers[queue[0].y] {
			if !there[n.y] {
				there[n.y] = true
				all, queue = append(all, n), append(queue, n)
			}
		}
	}
	return way, all
}

// reads are the derivations that one is computed of.
func (d *derivations) reads(n node, x *derived) (all []node) {
	if n.y.formula == nil {
		return nil
	}
	for _, e := range n.x.list {
		if n.y.formula.Uses().Reads(e.property) {
			all = append(all, node{n.x, e})
		}
	}
	for i, set := range n.y.sets {
		for _, source := range set {
			c := d.byTwin[source]
			if source == x.id {
				c = x
			}
			if e := c.find(n.y.formula.Aggregates[i].Property); e != nil {
				all = append(all, node{c, e})
			}
		}
	}
	return all
}

// find gives a property's derivation, or nil.
func (x *derived) find(property string) *derivation {
	if x == nil {
		return nil
	}
	if i := slices.IndexFunc(x.list, func(y *derivation) bool { return y.property == property }); i >= 0 {
		return x.list[i]
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
		if way, _ := d.circle(x, y); way != nil {
			return invalid("/derived/"+y.property, "it would depend on itself: %s", wayOf(way))
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
		if way, _ := d.circle(x, y); way != nil {
			return invalid("/thing_json/properties/"+y.property+"/pollux:derived", "it would depend on itself: %s", wayOf(way))
		}
	}
	return nil
}
