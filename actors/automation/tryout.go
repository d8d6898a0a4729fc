package automation

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Test evaluates a rule for a twin, with some values instead of its own, and says what it would do. Nothing is done.
func (h *Host) Test(m *pb.Rule, twin, name string, values map[string]*structpb.Value) (*pb.Evaluation, []string, error) {
	project, own, _ := strings.Cut(m.Id, "/")
	now := h.o.Now()
	if name == "" {
		name = firstName(m)
	}
	s := Said{Twin: twin, Kind: SaidProperty, Name: name, Time: now.UnixMilli()}
	sc := newScope(h.o.World, project, own, now, s)
	if twin != "" && sc.twin == nil {
		return nil, nil, ErrNotFound
	}
	for property, v := range values {
		x, err := state.FromProto(v)
		if err != nil {
			return nil, nil, wrong("/values/"+property, "%v", err)
		}
		if sc.twin != nil {
			sc.twin.State = override(sc.twin.State, property, x, now.UnixMilli())
		}
		if property == name {
			s.Now = json.RawMessage(x.AppendJSON(nil))
			sc.change.Value = x
		}
	}
	ev := examine(h.programs, m, sc, s, now)
	var does []string
	list := m.Then
	if !ev.Holds {
		list = m.Otherwise
	}
	for _, l := range flatten(list) {
		does = append(does, h.wouldDo(l.action, sc))
	}
	return ev, does, nil
}

// wouldDo says an action with its texts and values as they would be.
func (h *Host) wouldDo(a *pb.Action, sc *scope) string {
	a = proto.Clone(a).(*pb.Action)
	value := func(source string) string {
		v, err := h.programs.value(source, sc)
		if err != nil {
			return source + " (" + err.Error() + ")"
		}
		return string(v.AppendJSON(nil))
	}
	var more string
	switch x := a.Do.(type) {
	case *pb.Action_Set:
		if x.Set.Expr != "" {
			x.Set.Expr = value(x.Set.Expr)
		}
	case *pb.Action_Call:
		if x.Call.InputExpr != "" {
			more = " with " + value(x.Call.InputExpr)
		} else if x.Call.Input != nil {
			more = " with " + valueText(x.Call.Input)
		}
	case *pb.Action_Mqtt:
		more = " " + h.programs.text(x.Mqtt.Payload, sc)
		x.Mqtt.Topic = h.programs.text(x.Mqtt.Topic, sc)
	case *pb.Action_Notify:
		more = strings.TrimRight(": "+h.programs.text(x.Notify.Subject, sc)+" "+h.programs.text(x.Notify.Body, sc), ": ")
	}
	text := Describe(a) + more
	if a.If != "" {
		if yes, err := h.programs.holds(a.If, sc); err != nil {
			text += " (if: " + err.Error() + ")"
		} else if !yes {
			text += " (left out: its condition does not hold)"
		}
	}
	return text
}

// override gives a twin's record with another value of a property.
func override(r *state.Record, property string, v state.Value, at int64) *state.Record {
	c := state.Record{}
	if r != nil {
		c = *r
	}
	c.Properties = append([]state.Property(nil), c.Properties...)
	n := state.Intern(property)
	for i := range c.Properties {
		if c.Properties[i].Name == n {
			c.Properties[i].Value, c.Properties[i].Stamp = v, state.At(at, uint8(pb.Quality_QUALITY_GOOD))
			return &c
		}
	}
	c.Properties = append(c.Properties, state.Property{Name: n, Value: v, Stamp: state.At(at, uint8(pb.Quality_QUALITY_GOOD))})
	return &c
}
