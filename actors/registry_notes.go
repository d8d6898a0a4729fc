package actors

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxNotes is how many things somebody is told of one rule or schedule.
const maxNotes = 20

// notes collects what a rule or a schedule names and is not there at present: it may come, so nothing is refused for it.
type notes struct {
	r   *Registry
	all []string
}

// RuleNotes says what a stored rule names and is not there at present: twins, their properties, events and actions, members of systems, values that schemas
// refuse. It reads the store, of twins only those that the rule names.
func (r *Registry) RuleNotes(m *pb.Rule) []string {
	n := &notes{r: r}
	for i, t := range m.When {
		at := fmt.Sprintf("/rule/when/%d", i)
		switch x := t.On.(type) {
		case *pb.Trigger_Property:
			n.said(at, "property", x.Property.Of, x.Property.Names)
		case *pb.Trigger_Event:
			n.said(at, "event", x.Event.Of, x.Event.Names)
		case *pb.Trigger_Command:
			n.said(at, "", x.Command.Of, nil)
		case *pb.Trigger_Absent:
			var names []string
			if x.Absent.Property != "" {
				names = []string{x.Absent.Property}
			}
			n.said(at, "property", x.Absent.Of, names)
		}
	}
	n.actions("/rule/then", m.Then)
	n.actions("/rule/otherwise", m.Otherwise)
	return n.all
}

// ScheduleNotes is RuleNotes of a schedule.
func (r *Registry) ScheduleNotes(m *pb.Schedule) []string {
	n := &notes{r: r}
	n.actions("/schedule/actions", m.Actions)
	return n.all
}

func (n *notes) say(at, format string, args ...any) {
	if text := at + ": " + fmt.Sprintf(format, args...); len(n.all) < maxNotes && !slices.Contains(n.all, text) {
		n.all = append(n.all, text)
	}
}

// twin gives the model of a twin; nil: there is no such twin, which is noted, or its model is not known.
func (n *notes) twin(at, id string) (*pb.Twin, *drivers.Model) {
	t, err := n.r.e.readTwin(id)
	if err != nil || t == nil {
		n.say(at, "there is no twin %s", id)
		return nil, nil
	}
	s, err := n.r.e.catalog.forTwin(t)
	if err != nil {
		return t, nil
	}
	return t, s.model
}

// has notes a name that is not among those that a twin has.
func (n *notes) has(at, twin, kind, name string, names []string) bool {
	if slices.Contains(names, name) {
		return true
	}
	hint := ""
	if near := expr.Nearest(name, names); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	n.say(at, "%s has no %s %s%s", twin, kind, name, hint)
	return false
}

// properties are those of a twin's model, and what it has beside them: of its device, of detectors.
func (n *notes) properties(id string, m *drivers.Model) []string {
	all := slices.Clone(m.Properties())
	if v, ok := n.r.e.world.View(id); ok && v.State != nil {
		for i := range v.State.Properties {
			all = append(all, v.State.Properties[i].Name.Value())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// said looks at what a trigger is about.
func (n *notes) said(at, kind string, of *pb.Selection, names []string) {
	for _, id := range of.GetTwins() {
		_, m := n.twin(at, id)
		if m == nil {
			continue
		}
		for _, name := range names {
			if kind == "event" {
				n.has(at, id, kind, name, m.Events())
			} else {
				n.has(at, id, kind, name, n.properties(id, m))
			}
		}
	}
}

func (n *notes) actions(path string, all []*pb.Action) {
	for i, a := range all {
		at := fmt.Sprintf("%s/%d", path, i)
		switch x := a.Do.(type) {
		case *pb.Action_Call:
			n.each(at, x.Call.To, func(id string, m *drivers.Model) { n.has(at, id, "action", x.Call.Action, m.Actions()) })
		case *pb.Action_Set:
			n.each(at, x.Set.To, func(id string, m *drivers.Model) { n.value(at, id, m, x.Set) })
		case *pb.Action_Parallel:
			n.actions(at+"/parallel", x.Parallel.Actions)
		case *pb.Action_Raise:
			for k, e := range x.Raise.Escalate {
				n.actions(fmt.Sprintf("%s/raise/escalate/%d", at, k), e.Actions)
			}
		}
	}
}

// each looks at the twins that an action names, by itself or by a system.
func (n *notes) each(at string, to *pb.Targets, look func(id string, m *drivers.Model)) {
	if to.GetSystem() == "" {
		if to.GetTwin() != "" {
			if _, m := n.twin(at, to.Twin); m != nil {
				look(to.Twin, m)
			}
		}
		return
	}
	s, err := n.r.GetSystem(to.System)
	if err != nil {
		n.say(at, "there is no system %s", to.System)
		return
	}
	found := false
	for _, member := range s.Members {
		if !meant(to.Name, member.Name) {
			continue
		}
		found = true
		if _, m := n.twin(at, member.Twin); m != nil && to.Name != "" {
			look(member.Twin, m)
		}
	}
	if !found {
		n.say(at, "%s has no member %s", to.System, to.Name)
	}
}

// value looks at what a property is set to.
func (n *notes) value(at, id string, m *drivers.Model, x *pb.SetAction) {
	if !n.has(at, id, "property", x.Property, n.properties(id, m)) || x.Value == nil || m.Property(x.Property) == nil {
		return
	}
	v, err := state.FromProto(x.Value)
	if err == nil {
		err = m.ValidateProperty(x.Property, v.AppendJSON(nil))
	}
	var wrong *drivers.SchemaError
	switch {
	case errors.As(err, &wrong):
		n.say(at, "%s does not take this as %s: %s", id, x.Property, wrong.Reason)
	case err != nil:
		n.say(at, "%s does not take this as %s: %v", id, x.Property, err)
	}
}
