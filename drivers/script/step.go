package script

import (
	"slices"
	"strings"
)

// kinds are all kinds of steps, and how their options are read.
var kinds = map[Kind]func(p *parser, s *Step, v node, m *mapping){
	Expect: func(p *parser, s *Step, v node, m *mapping) { s.Frame, s.Wait = p.frame(v), within(m) },
	Send:   func(p *parser, s *Step, v node, _ *mapping) { s.Message = p.message(v) },
	Respond: func(p *parser, s *Step, v node, m *mapping) {
		s.Rule = p.rule(m, v)
	},
	Disconnect: reason,
	Connect:    reason,
	Refuse:     reason,
	Quiet:      lapse,
	Advance:    lapse,
	At:         func(p *parser, s *Step, v node, _ *mapping) { s.Time = p.time(v) },
	Call:       call,
	Result: func(p *parser, s *Step, v node, m *mapping) {
		reason(p, s, v, m)
		s.Wait = within(m)
		if s.Outcome = p.outcome(m); s.Outcome == nil {
			s.Outcome = &Outcome{Name: "done"}
		}
	},
	Set: func(p *parser, s *Step, v node, m *mapping) {
		s.Values = p.object(v)
		p.command(s, m)
		s.Outcome = p.outcome(m)
	},
	Desired: values,
	State:   values,
	Quality: values,
	Status:  values,
	Event: func(p *parser, s *Step, v node, m *mapping) {
		s.Text, s.Wait = p.text(v), within(m)
		p.input(s, m, "data")
	},
	Log: func(p *parser, s *Step, v node, m *mapping) {
		s.Text, s.Wait, s.Level = p.text(v), within(m), m.string("level")
	},
	Settings:   func(p *parser, s *Step, v node, _ *mapping) { s.Values = p.object(v) },
	Discovered: values,
	Model:      func(p *parser, s *Step, v node, m *mapping) { s.Input, s.Has, s.Wait = p.object(v), true, within(m) },
	HTTP: func(p *parser, s *Step, v node, m *mapping) {
		s.Request, s.Wait = p.request(v), within(m)
		with, answered := m.take("with")
		s.Answer = p.answerOf(m, with, answered)
	},
	Webhook: func(p *parser, s *Step, v node, m *mapping) {
		s.Request = p.request(v)
		if a, ok := m.take("answer"); ok {
			s.Answer = p.answer(a)
		}
	},
	Report: func(p *parser, s *Step, v node, _ *mapping) {
		twins := p.mapping(v, "report")
		if len(twins.keys) != 1 {
			p.fail(v, "report takes one twin, with its values")
		}
		s.Twin = twins.keys[0]
		s.Values = p.object(twins.values[s.Twin])
	},
	Called: func(p *parser, s *Step, v node, m *mapping) {
		s.Called, s.Wait = &Asked{Twin: p.text(v)}, within(m)
		p.asked(m, s.Called)
		s.Outcome = &Outcome{Name: "done"}
		if with, ok := m.take("with"); ok {
			s.Outcome = p.reply(with)
		}
	},
}

func reason(p *parser, s *Step, v node, _ *mapping) {
	if !v.isNull() {
		s.Text = p.text(v)
	}
}

func lapse(p *parser, s *Step, v node, _ *mapping) { s.Wait = p.duration(v) }

func values(p *parser, s *Step, v node, m *mapping) { s.Values, s.Wait = p.object(v), within(m) }

func call(p *parser, s *Step, v node, m *mapping) {
	s.Text = p.text(v)
	p.input(s, m, "input")
	p.command(s, m)
	s.Wait = within(m)
	s.Outcome = p.outcome(m)
}

func (p *parser) input(s *Step, m *mapping, key string) {
	if v, ok := m.take(key); ok {
		s.Input, s.Has = p.value(v), true
	}
}

func (p *parser) command(s *Step, m *mapping) {
	s.Command = Command{Timeout: m.duration("timeout"), Delay: m.duration("delay"), Priority: int(m.number("priority")), Name: m.string("name")}
	if _, ok := m.values["retries"]; ok {
		n := int(m.number("retries"))
		s.Command.Retries = &n
	}
	m.asked = append(m.asked, "retries")
}

// step reads one step: a mapping with one kind and its options, or the bare name of a kind that needs nothing.
func (p *parser) step(n node) Step {
	if n.isText() {
		s := Step{Kind: Kind(n.text()), Line: n.Line}
		if !slices.Contains([]Kind{Disconnect, Connect, Result}, s.Kind) {
			p.fail(n, "%q is no step by itself; disconnect, connect and result are", n.text())
		}
		if s.Kind == Result {
			s.Outcome = &Outcome{Name: "done"}
		}
		return s
	}
	m := p.mapping(n, "step")
	var kind Kind
	for _, k := range m.keys {
		if kinds[Kind(k)] != nil {
			if kind != "" {
				p.fail(n, "a step is one thing, this is both %s and %s", kind, k)
			}
			kind = Kind(k)
		}
	}
	if kind == "" {
		p.fail(n, "no step has the keys %s; steps are %s", strings.Join(m.keys, ", "), strings.Join(kindNames(), ", "))
	}
	m.what = string(kind)
	s := Step{Kind: kind, Line: m.lines[string(kind)].Line}
	v, _ := m.take(string(kind))
	m.asked = nil
	kinds[kind](p, &s, v, m)
	m.end()
	return s
}

func kindNames() []string {
	var out []string
	for k := range kinds {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}
