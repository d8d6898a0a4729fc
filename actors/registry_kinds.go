package actors

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// kinds are the words for types of values in conditions, by those of models.
var kinds = map[string]string{"number": "number", "integer": "number", "string": "text", "boolean": "true or false"}

// conditionFits refuses a rule whose condition does not go with what its properties are, by the models of its twins, where that is known and the same of
// all of them. What is stored already may be put again as it is: it is the model that was changed, and a note says so.
func (r *Registry) conditionFits(m *pb.Rule) error {
	kind, of := "", ""
	for _, t := range m.When {
		is, whose := r.kindSaid(ProjectOf(m.Id), t.GetProperty())
		if is == "" || kind != "" && kind != is {
			return nil
		}
		kind, of = is, whose
	}
	if rec, ok, err := r.store.Get(automation.TableRules, m.Id); err == nil && ok {
		if old, err := decode(rec, &pb.Rule{}); err == nil && old.If == m.If && old.Until == m.Until &&
			slices.EqualFunc(old.When, m.When, func(a, b *pb.Trigger) bool { return proto.Equal(a, b) }) {
			return nil
		}
	}
	for _, x := range []struct{ path, text string }{{"/rule/if", m.If}, {"/rule/until", m.Until}} {
		if err := r.e.automation.CheckKind(x.text, kind); err != nil {
			return invalid(x.path, "%v; %s is %s", err, of, map[bool]string{true: kind, false: "a " + kind}[kind == "true or false"])
		}
	}
	return nil
}

// kindSaid is of which kind the properties are that a trigger names, and the first of them in words; "" where no model says it, where models differ,
// or where there are too many twins to tell.
func (r *Registry) kindSaid(project string, t *pb.PropertyTrigger) (kind, of string) {
	same := true
	look := func(m *drivers.Model, whose string) bool {
		for _, name := range t.Names {
			p := m.Property(name)
			if p == nil || kinds[p.Type] == "" || kind != "" && kind != kinds[p.Type] {
				same = false
				return false
			}
			kind, of = kinds[p.Type], cmp.Or(of, fmt.Sprintf("%s of %s", name, whose))
		}
		return true
	}
	if len(t.GetNames()) == 0 {
		return "", ""
	}
	if id := t.Of.GetModel(); id != "" && len(t.Of.Twins) == 0 {
		if s, err := r.e.catalog.resolveModel(within(project, id)); err == nil {
			look(s.model, "model "+id)
		}
	}
	for _, id := range t.Of.GetTwins() {
		if tw, err := r.e.readTwin(within(project, id)); err != nil || tw == nil {
			return "", "" // it may become anything
		}
	}
	n := 0
	whole, err := r.e.world.each(project, t.Of, 1_000, func(id string) bool {
		tw, err := r.e.readTwin(id)
		if err != nil || tw == nil {
			return true
		}
		s, err := r.e.catalog.forTwin(tw)
		if err != nil {
			same = false
			return false
		}
		n++
		return look(s.model, id) && n < firstTwins
	})
	if err != nil || !same || (!whole || n == firstTwins) && t.Of.GetModel() == "" {
		return "", ""
	}
	return kind, of
}
