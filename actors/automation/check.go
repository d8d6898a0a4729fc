package automation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers/cron"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// CheckSchedule says what is wrong with a schedule, as a *FieldError, or nil.
func (h *Host) CheckSchedule(m *pb.Schedule) error {
	if _, err := NewPlan(m.Timing, m.Windows, h.o.World.Locate); err != nil {
		return prefixed("/schedule", "/timing", err)
	}
	if len(m.Actions) == 0 {
		return wrong("/schedule/actions", "name one at least")
	}
	return below("/schedule", h.checkActions("/actions", m.Actions, false))
}

// CheckDue says, as a *FieldError, that a schedule is never due from now on, which one that is made now is not meant to be.
func (h *Host) CheckDue(m *pb.Schedule, now time.Time) error {
	p, err := NewPlan(m.Timing, m.Windows, h.o.World.Locate)
	if err == nil && m.Timing.GetSun() == nil && m.Timing.GetAt() == nil && p.Next(now).IsZero() {
		return wrong("/schedule/timing", "it is never due from now on")
	}
	return nil
}

// prefixed puts a path before that of an error of NewPlan, whose windows are not a part of the timing.
func prefixed(path, timing string, err error) error {
	f, ok := err.(*FieldError)
	if ok && len(f.Path) > 8 && f.Path[:9] == "/windows/" {
		return below(path, err)
	}
	return below(path+timing, err)
}

// Fits says whether a condition may be computed where the value and the previous one are of the sample's kind. It reads nothing: of a
// condition that needs more than the change it is taken for granted.
func (h *Host) Fits(condition string, sample state.Value) bool {
	x, err := h.programs.compile(condition)
	if err != nil || x.past || len(x.aggregates) > 0 {
		return true
	}
	_, err = x.Holds(&expr.Input{Now: h.o.Now(), Change: &expr.Change{Kind: "property", Value: sample, Previous: sample}})
	return !errors.Is(err, expr.ErrMixed)
}

// Reads gives the properties of the twin that a condition is about, as far as it names them.
func (h *Host) Reads(condition string) []string {
	x, err := h.programs.compile(condition)
	if err != nil || x.Uses().Field("location") { // which may be in one of many
		return nil
	}
	return x.Uses().Properties
}

// Names gives the twins, zones and systems that a condition names.
func (h *Host) Names(condition string) (twins, zones, systems []string) {
	x, err := h.programs.compile(condition)
	if err != nil {
		return nil, nil, nil
	}
	twins = slices.Clone(x.Uses().Twins)
	for _, a := range x.aggregates {
		switch {
		case a.Set.Kind == derive.Named:
			twins = append(twins, a.Set.Args...)
		case a.Set.Kind == derive.InZone && a.Set.Of != "":
			zones = append(zones, a.Set.Of)
		case a.Set.Kind == derive.InSystem && a.Set.Of != "":
			systems = append(systems, a.Set.Of)
		}
	}
	return twins, zones, systems
}

// CheckKind says what is wrong with a condition whose value, and the one before, is of a kind: number, text, or true or false. An error says where in
// the text.
func (h *Host) CheckKind(condition, kind string) error {
	env := h.programs.kinds[kind]
	if condition == "" || env == nil {
		return nil
	}
	_, err := h.programs.read(env, func(env *expr.Env) (*expr.Expr, error) { return env.Condition(condition) })
	return err
}

// CheckRule says what is wrong with a rule, as a *FieldError, or nil.
func (h *Host) CheckRule(m *pb.Rule) error {
	for _, x := range []struct{ path, text string }{{"/rule/if", m.If}, {"/rule/until", m.Until}} {
		if err := h.programs.condition(x.text); err != nil {
			return wrong(x.path, "%v", err)
		}
	}
	if len(m.When) == 0 {
		return wrong("/rule/when", "name what has it evaluated")
	}
	for i, t := range m.When {
		path := fmt.Sprintf("/rule/when/%d", i)
		if s := t.GetSchedule(); s != nil {
			if _, err := NewPlan(s, nil, h.o.World.Locate); err != nil {
				return below(path+"/schedule", err)
			}
		}
		if w := t.GetWebhook(); w != nil && len(w.SecretSha256) != 64 {
			return wrong(path+"/webhook/secret", "give one of 16 characters at least: whoever knows it may post")
		}
		if a := t.GetAbsent(); a != nil && a.Since.AsDuration() < time.Second {
			return wrong(path+"/absent/since", "it is below 1s")
		}
	}
	zone, err := cron.Zone(m.Zone)
	if err != nil {
		return wrong("/rule/zone", "%v", err)
	}
	if _, err := newWindows(m.Windows, zone); err != nil {
		return below("/rule", err)
	}
	if len(m.Then)+len(m.Otherwise) == 0 {
		return wrong("/rule/then", "name an action at least")
	}
	subject := m.AtLeast == 0
	if err := h.checkActions("/then", m.Then, subject); err != nil {
		return below("/rule", err)
	}
	return below("/rule", h.checkActions("/otherwise", m.Otherwise, subject))
}

// checkActions looks at actions; subject: there may be a twin that they are about.
func (h *Host) checkActions(path string, all []*pb.Action, subject bool) error {
	for i, a := range all {
		at := fmt.Sprintf("%s/%d", path, i)
		if err := h.checkAction(at, a, subject); err != nil {
			return err
		}
		if p := a.GetParallel(); p != nil {
			for n, x := range p.Actions {
				if x.GetParallel() != nil || x.GetWait() != nil || x.GetStop() {
					return wrong(fmt.Sprintf("%s/parallel/actions/%d", at, n), "only what is done at once can be parallel")
				}
				if err := h.checkAction(fmt.Sprintf("%s/parallel/actions/%d", at, n), x, subject); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (h *Host) checkAction(path string, a *pb.Action, subject bool) error {
	if err := h.programs.condition(a.If); err != nil {
		return wrong(path+"/if", "%v", err)
	}
	expression := func(path, source string) error {
		if source == "" {
			return nil
		}
		if _, err := h.programs.compile(source); err != nil {
			return wrong(path, "%v", err)
		}
		return nil
	}
	texts := func(path string, all ...string) error {
		for _, text := range all {
			if err := h.programs.template(text); err != nil {
				return wrong(path, "%v", err)
			}
		}
		return nil
	}
	if p := a.Retry; p.GetMaximum() != nil && p.GetMaximum().AsDuration() < p.GetInitial().AsDuration() {
		return wrong(path+"/retry/maximum", "it is below initial, %s", p.GetInitial().AsDuration())
	}
	switch x := a.Do.(type) {
	case *pb.Action_Call:
		if err := h.checkTargets(path+"/call/to", x.Call.To, subject); err != nil {
			return err
		}
		return expression(path+"/call/input_expr", x.Call.InputExpr)
	case *pb.Action_Set:
		if err := h.checkTargets(path+"/set/to", x.Set.To, subject); err != nil {
			return err
		}
		if (x.Set.Value == nil) == (x.Set.Expr == "") {
			return wrong(path+"/set", "name value, or expr")
		}
		return expression(path+"/set/expr", x.Set.Expr)
	case *pb.Action_Publish:
		if err := texts(path+"/publish/key", x.Publish.Key); err != nil {
			return err
		}
		return expression(path+"/publish/expr", x.Publish.Expr)
	case *pb.Action_Mqtt:
		return texts(path+"/mqtt", x.Mqtt.Topic, x.Mqtt.Payload)
	case *pb.Action_Raise:
		if err := texts(path+"/raise/text", x.Raise.Text); err != nil {
			return err
		}
		return h.CheckEscalations(path+"/raise/escalate", x.Raise.Escalate, subject)
	case *pb.Action_Logic:
		return expression(path+"/logic/expr", x.Logic.Expr)
	case *pb.Action_Notify:
		return h.checkNotify(path+"/notify", x.Notify)
	case *pb.Action_Clear, *pb.Action_Wait, *pb.Action_Parallel, *pb.Action_Stop:
		return nil
	}
	return wrong(path, "name one of call, set, publish, mqtt, raise, clear, notify, logic, wait, parallel, stop")
}

// CheckEscalations says what is wrong with escalations, or nil. They are in the order of their times, and raise no alarms.
func (h *Host) CheckEscalations(path string, all []*pb.Escalation, subject bool) error {
	for i, e := range all {
		at := fmt.Sprintf("%s/%d", path, i)
		if i > 0 && e.After.AsDuration() < all[i-1].After.AsDuration() {
			return wrong(at+"/after", "it is before the one above it")
		}
		for _, l := range flatten(e.Actions) {
			if l.action.GetRaise() != nil || l.action.GetClear() != nil {
				return wrong(at+"/actions", "an escalation raises and clears no alarms")
			}
		}
		if err := h.checkActions(at+"/actions", e.Actions, subject); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) checkTargets(path string, t *pb.Targets, subject bool) error {
	if t.GetTwin() == "" && t.GetSystem() == "" && t.GetZone() == "" && t.GetInterface() == "" && t.GetModel() == "" && len(t.GetLabels()) == 0 && !subject {
		return wrong(path, "name a twin, a system, a zone, an interface, a model or labels: there is none that it is about")
	}
	if t.GetName() != "" && t.GetSystem() == "" {
		return wrong(path+"/name", "it is a name in a system: name that, too")
	}
	return nil
}
