package actors

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxNotes is how many things somebody is told of one rule or schedule.
const maxNotes = 20

// notes collects what a rule or a schedule names and is not there at present: it may come, so nothing is refused for it.
type notes struct {
	r       *Registry
	project string
	all     []string
}

// RuleNotes says what a stored rule names and is not there at present: twins, their properties, events and actions, zones, systems and their members, values
// that schemas refuse; and what it is for and matches no twin. It reads the store: the twins that the rule names, and of a selection the first ones.
func (r *Registry) RuleNotes(m *pb.Rule) []string {
	n := &notes{r: r, project: ProjectOf(m.Id)}
	for i, t := range m.When {
		at := fmt.Sprintf("/rule/when/%d", i)
		switch x := t.On.(type) {
		case *pb.Trigger_Property:
			n.said(at, "property", x.Property.Of, x.Property.Names)
			n.conditions(m, x.Property)
			n.reads(m, x.Property.Of)
		case *pb.Trigger_Event:
			n.said(at, "event", x.Event.Of, x.Event.Names)
			n.reads(m, x.Event.Of)
		case *pb.Trigger_Topic:
			n.there(at, "topic", topic.TableTopics, x.Topic.Topic)
		case *pb.Trigger_Command:
			n.said(at, "", x.Command.Of, nil)
		case *pb.Trigger_Absent:
			var names []string
			if x.Absent.Property != "" {
				names = []string{x.Absent.Property}
			}
			n.said(at, "property", x.Absent.Of, names)
		case *pb.Trigger_Schedule:
			n.sun(at, x.Schedule.GetSun())
		}
	}
	n.named("/rule/if", m.If)
	n.named("/rule/until", m.Until)
	n.actions("/rule/then", m.Then)
	n.actions("/rule/otherwise", m.Otherwise)
	return n.all
}

// ScheduleNotes is RuleNotes of a schedule.
func (r *Registry) ScheduleNotes(m *pb.Schedule) []string {
	n := &notes{r: r, project: ProjectOf(m.Id)}
	n.sun("/schedule/timing", m.Timing.GetSun())
	if at := m.Timing.GetAt(); at != nil && m.UpdateTime != nil && !at.AsTime().After(m.UpdateTime.AsTime()) {
		n.say("/schedule/timing/at", "it is never due: that was before the schedule was put")
	}
	n.actions("/schedule/actions", m.Actions)
	return n.all
}

// sun notes one whose place nobody knows: it is never due.
func (n *notes) sun(at string, s *pb.Sun) {
	if s == nil {
		return
	}
	if _, ok := n.r.e.world.Locate(s); ok {
		return
	}
	if s.TwinId != "" {
		if t, _ := n.twin(at, s.TwinId); t != nil {
			n.say(at, "it is never due: %s has no latitude and longitude, and its zone no place", s.TwinId)
		}
		return
	}
	if n.r.e.world.Zone(s.ZoneId) == nil {
		n.say(at, "there is no zone %s", s.ZoneId)
		return
	}
	n.say(at, "it is never due: zone %s has no place, nor has one that it is in", s.ZoneId)
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
	n.say(at, "%s has no %s %s%s", twin, kind, name, hint(name, names))
	return false
}

// hint gives the names that could have been meant.
func hint(name string, names []string) string {
	if near := expr.Nearest(name, names); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return ""
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
	has := func(id string, m *drivers.Model) []string {
		if kind == "event" {
			return m.Events()
		}
		return n.properties(id, m)
	}
	there := 0
	for _, id := range of.GetTwins() {
		id = within(n.project, id)
		t, m := n.twin(at, id)
		if t != nil {
			there++
		}
		if m == nil {
			continue
		}
		for _, name := range names {
			n.has(at, id, kind, name, has(id, m))
		}
	}
	if len(of.GetTwins()) == 0 {
		n.selected(at, of, kind, names, has)
	} else if there > 0 {
		n.selected(at, of, "", nil, has)
	}
}

// samples of the kinds of values that conditions compare.
var samples = map[string][]state.Value{
	"number":  {state.NumberValue(-1e12), state.NumberValue(0), state.NumberValue(1e12)},
	"integer": {state.NumberValue(-1e12), state.NumberValue(0), state.NumberValue(1e12)},
	"string":  {state.StringValue(""), state.StringValue("z")},
	"boolean": {state.BoolValue(false), state.BoolValue(true)},
}

// conditions notes one that cannot be computed of a property of a twin that the trigger names, as its model says it is.
func (n *notes) conditions(m *pb.Rule, t *pb.PropertyTrigger) {
	for _, id := range t.Of.GetTwins() {
		id = within(n.project, id)
		tw, err := n.r.e.readTwin(id)
		if err != nil || tw == nil {
			continue
		}
		s, err := n.r.e.catalog.forTwin(tw)
		if err != nil {
			continue
		}
		for _, name := range t.Names {
			p := s.model.Property(name)
			if p == nil {
				continue
			}
			for _, x := range []struct{ at, text string }{{"/rule/if", m.If}, {"/rule/until", m.Until}} {
				fits := func(v state.Value) bool { return n.r.e.automation.Fits(x.text, v) }
				if all := samples[p.Type]; all != nil && x.text != "" && !slices.ContainsFunc(all, fits) {
					n.say(x.at, "it can never be computed of %s of %s, whose type is %s", name, id, p.Type)
				}
			}
		}
	}
}

// firstTwins is how many twins of a selection are looked at for a name that none of them may have.
const firstTwins = 100

// selected notes a selection that no twin matches, and names that none of its first twins has. Where more records than a page's would have to be read
// for that it says nothing.
func (n *notes) selected(at string, of *pb.Selection, kind string, names []string, has func(id string, m *drivers.Model) []string) {
	known, some := n.known(of, len(names) == 0, has)
	if !some {
		n.absent(at, of)
		return
	}
	for _, name := range names {
		if known != nil && !slices.Contains(known, name) {
			n.say(at, "no twin of %s has the %s %s%s", wordsOf(of), kind, name, hint(name, known))
		}
	}
}

// known are the names that the twins of a selection have, in order; nil where that cannot be told. some: it has twins, as far as can be told; first: that
// alone is asked.
func (n *notes) known(of *pb.Selection, first bool, has func(id string, m *drivers.Model) []string) (names []string, some bool) {
	known := map[string]bool{}
	matches, open := 0, false
	whole, err := n.r.e.world.each(n.project, of, maxScan, func(id string) bool {
		matches++
		t, err := n.r.e.readTwin(id)
		if err != nil || t == nil {
			return true
		}
		s, err := n.r.e.catalog.forTwin(t)
		if err != nil {
			open = true
			return false
		}
		for _, name := range has(id, s.model) {
			known[name] = true
		}
		open = matches == firstTwins
		return !open && !first
	})
	if err != nil || !whole || open {
		return nil, true
	}
	return append([]string{}, slices.Sorted(maps.Keys(known))...), matches > 0
}

// reads notes properties that conditions read of the twin that they are about, and that none of these twins has.
func (n *notes) reads(m *pb.Rule, of *pb.Selection) {
	for _, x := range []struct{ at, text string }{{"/rule/if", m.If}, {"/rule/until", m.Until}} {
		names := n.r.e.automation.Reads(x.text)
		if len(names) == 0 {
			continue
		}
		known, some := n.known(of, false, n.properties)
		for _, name := range names {
			if some && known != nil && !slices.Contains(known, name) {
				n.say(x.at, "no twin that it is for has the property %s%s", name, hint(name, known))
			}
		}
	}
}

// named notes what a condition names.
func (n *notes) named(at, condition string) {
	twins, zones, systems := n.r.e.automation.Names(condition)
	for _, id := range twins {
		n.twin(at, within(n.project, id))
	}
	for _, id := range zones {
		n.there(at, "zone", tableZones, within(n.project, id))
	}
	for _, id := range systems {
		n.there(at, "system", tableSystems, within(n.project, id))
	}
}

// there notes a record that is not.
func (n *notes) there(at, kind string, table storage.Table, id string) {
	if _, ok, err := n.r.store.Get(table, id); err == nil && !ok {
		n.say(at, "there is no %s %s", kind, id)
	}
}

// absent notes why no twin matches, where a name in the selection is the reason.
func (n *notes) absent(at string, of *pb.Selection) {
	missing := false
	for _, x := range []struct {
		kind, id string
		table    storage.Table
	}{{"zone", of.GetZone(), tableZones}, {"system", of.GetSystem(), tableSystems}} {
		if x.id == "" {
			continue
		}
		if _, ok, err := n.r.store.Get(x.table, within(n.project, x.id)); err == nil && !ok {
			n.say(at, "there is no %s %s", x.kind, within(n.project, x.id))
			missing = true
		}
	}
	if !missing {
		n.say(at, "no twin matches %s at present", wordsOf(of))
	}
}

// wordsOf says a selection in words.
func wordsOf(of *pb.Selection) string {
	var w []string
	for _, x := range []struct{ name, is string }{{"zone", of.GetZone()}, {"system", of.GetSystem()}, {"model", of.GetModel()}, {"driver", of.GetDriver()},
		{"interface", of.GetInterface()}} {
		if x.is != "" {
			w = append(w, x.name+" "+x.is)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(of.GetLabels())) {
		w = append(w, "label "+k+"="+of.Labels[k])
	}
	if len(w) == 0 {
		return "*"
	}
	return strings.Join(w, ", ")
}

func (n *notes) actions(path string, all []*pb.Action) {
	for i, a := range all {
		at := fmt.Sprintf("%s/%d", path, i)
		switch x := a.Do.(type) {
		case *pb.Action_Call:
			n.each(at, x.Call.To, "action", x.Call.Action, func(id string, m *drivers.Model) { n.has(at, id, "action", x.Call.Action, m.Actions()) })
		case *pb.Action_Set:
			n.each(at, x.Set.To, "property", x.Set.Property, func(id string, m *drivers.Model) { n.value(at, id, m, x.Set) })
		case *pb.Action_Publish:
			n.there(at, "topic", topic.TableTopics, x.Publish.Topic)
		case *pb.Action_Logic:
			n.there(at, "logic", tableTwins, x.Logic.Logic)
		case *pb.Action_Notify:
			for k, f := range x.Notify.Attachments {
				if h := f.GetHistory(); h.GetOf() != nil {
					n.said(fmt.Sprintf("%s/notify/attachments/%d", at, k), "property", h.Of, h.Properties)
				}
			}
		case *pb.Action_Parallel:
			n.actions(at+"/parallel", x.Parallel.Actions)
		case *pb.Action_Raise:
			for k, e := range x.Raise.Escalate {
				n.actions(fmt.Sprintf("%s/raise/escalate/%d", at, k), e.Actions)
			}
		}
	}
}

// each looks at the twins that an action names, by itself or by a system; of others it notes that none is meant, or none has the name.
func (n *notes) each(at string, to *pb.Targets, kind, name string, look func(id string, m *drivers.Model)) {
	if to.GetTwin() != "" {
		if _, m := n.twin(at, to.Twin); m != nil {
			look(to.Twin, m)
		}
		return
	}
	if to.GetSystem() == "" {
		if of := selectionOf(to); of != nil {
			n.selected(at, of, kind, []string{name}, func(id string, m *drivers.Model) []string {
				if kind == "action" {
					return m.Actions()
				}
				return n.properties(id, m)
			})
		}
		return
	}
	s, err := n.r.GetSystem(to.System)
	if err != nil {
		n.say(at, "there is no system %s", to.System)
		return
	}
	found, matches := false, false
	for _, member := range s.Members {
		if !meant(to.Name, member.Name) {
			continue
		}
		found = true
		_, m := n.twin(at, member.Twin)
		matches = matches || n.r.e.world.Matches(n.project, selectionOf(to), member.Twin)
		if m != nil && to.Name != "" {
			look(member.Twin, m)
		}
	}
	switch {
	case !found && to.Name == "":
		n.say(at, "%s has no members", to.System)
	case !found:
		n.say(at, "%s has no member %s", to.System, to.Name)
	case !matches && selectionOf(to) != nil:
		n.say(at, "no twin of %s matches %s at present", to.System, wordsOf(selectionOf(to)))
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
