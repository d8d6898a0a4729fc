package script

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"time"

	"gopkg.in/yaml.v3"
)

// MaxBytes is how long a script file may be.
const MaxBytes = 1 << 20

// Open reads a script file.
func Open(path string) (*File, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, raw)
}

// Parse reads a script. Its error is an *Error, which names the line.
func Parse(path string, raw []byte) (f *File, err error) {
	if len(raw) > MaxBytes {
		return nil, &Error{path, 1, fmt.Sprintf("the script has %d bytes, %d are allowed", len(raw), MaxBytes)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, &Error{path, yamlLine(err), err.Error()}
	}
	if len(doc.Content) == 0 {
		return nil, &Error{path, 1, "the script is empty; it needs tests"}
	}
	defer func() {
		if r := recover(); r != nil {
			fault, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			f, err = nil, fault
		}
	}()
	p := &parser{path: path}
	if err := deep(&doc, 0); err != nil {
		return nil, &Error{path, 1, err.Error()}
	}
	return p.file(resolve(doc.Content[0])), nil
}

// deep refuses what nests without end, as aliases can.
func deep(n *yaml.Node, level int) error {
	if level > 64 {
		return fmt.Errorf("it nests more than 64 levels deep")
	}
	if n.Kind == yaml.AliasNode {
		return fmt.Errorf("line %d: aliases are not taken", n.Line)
	}
	for _, c := range n.Content {
		if err := deep(c, level+1); err != nil {
			return err
		}
	}
	return nil
}

func yamlLine(err error) int {
	line := 1
	_, _ = fmt.Sscanf(err.Error(), "yaml: line %d:", &line)
	return line
}

func (p *parser) file(n node) *File {
	m := p.mapping(n, "script")
	f := &File{Path: p.path, Setup: p.setup(m)}
	if v, ok := m.take("before"); ok {
		f.Before = p.steps(v)
	}
	tests, ok := m.take("tests")
	m.end()
	if !ok || len(p.items(tests)) == 0 {
		p.fail(n, "the script has no tests")
	}
	names := map[string]bool{}
	for _, t := range tests.list() {
		test := p.test(t, &f.Setup)
		if names[test.Name] {
			p.fail(t, "two tests are called %q", test.Name)
		}
		names[test.Name] = true
		f.Tests = append(f.Tests, test)
	}
	return f
}

func (p *parser) setup(m *mapping) Setup {
	s := Setup{Twins: map[string]Mock{}, Systems: map[string]map[string]string{}}
	if v, ok := m.take("uri"); ok {
		s.URI, s.HasURI = p.text(v), true
	}
	if v, ok := m.take("twins"); ok {
		twins := p.mapping(v, "twins")
		for _, name := range twins.keys {
			s.Twins[name] = p.mock(twins.values[name])
		}
	}
	if v, ok := m.take("systems"); ok {
		systems := p.mapping(v, "systems")
		for _, id := range systems.keys {
			s.Systems[id] = p.texts(systems.values[id])
		}
	}
	if v, ok := m.take("settings"); ok {
		s.Settings = p.object(v)
	}
	if v, ok := m.take("start"); ok {
		s.Start = p.time(v)
	}
	if v, ok := m.take("connect"); ok {
		up, is := p.value(v).(bool)
		if !is {
			p.fail(v, "connect: want true or false, not %s", v.kind())
		}
		s.Away = !up
	}
	if v, ok := m.take("was"); ok {
		w := p.mapping(v, "was")
		s.Was = &Was{Version: w.string("version")}
		if x, ok := w.take("memory"); ok {
			s.Was.Memory = json.RawMessage(JSON(p.value(x)))
		}
		if x, ok := w.take("properties"); ok {
			s.Was.Properties = p.raw(x)
		}
		w.end()
		if s.Was.Version == "" {
			p.fail(v, "was needs the version that went before")
		}
	}
	if v, ok := m.take("respond"); ok {
		for _, r := range p.items(v) {
			rm := p.mapping(r, "rule")
			to, ok := rm.take("to")
			if !ok {
				p.fail(r, "a rule needs to: what it answers")
			}
			s.Rules = append(s.Rules, *p.rule(rm, to))
			rm.end()
		}
	}
	return s
}

func (p *parser) test(n node, base *Setup) Test {
	m := p.mapping(n, "test")
	t := Test{Line: n.Line, Name: m.string("name"), Exact: m.bool("exact")}
	if t.Name == "" {
		p.fail(n, "a test needs a name")
	}
	_, connects := m.values["connect"]
	own := p.setup(m)
	t.Setup = *base
	if own.Settings != nil {
		t.Settings = maps.Clone(base.Settings)
		if t.Settings == nil {
			t.Settings = map[string]any{}
		}
		maps.Copy(t.Settings, own.Settings)
	}
	t.Twins, t.Systems = maps.Clone(base.Twins), maps.Clone(base.Systems)
	maps.Copy(t.Twins, own.Twins)
	maps.Copy(t.Systems, own.Systems)
	if own.HasURI {
		t.URI, t.HasURI = own.URI, true
	}
	if own.Was != nil {
		t.Was = own.Was
	}
	if !own.Start.IsZero() {
		t.Start = own.Start
	}
	if connects {
		t.Away = own.Away
	}
	t.Rules = append(append([]Rule(nil), base.Rules...), own.Rules...)
	v, ok := m.take("steps")
	m.end()
	if !ok {
		p.fail(n, "test %q has no steps", t.Name)
	}
	t.Steps = p.steps(v)
	return t
}

func (p *parser) mock(n node) Mock {
	m := p.mapping(n, "twin")
	mock := Mock{Line: n.Line, Properties: map[string]json.RawMessage{}}
	if v, ok := m.take("properties"); ok {
		mock.Properties = p.raw(v)
	}
	if v, ok := m.take("actions"); ok {
		for _, a := range p.items(v) {
			mock.Actions = append(mock.Actions, p.text(a))
		}
	}
	m.end()
	return mock
}

// raw reads an object's members as JSON.
func (p *parser) raw(n node) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for name, value := range p.object(n) {
		out[name] = json.RawMessage(JSON(value))
	}
	return out
}

func (p *parser) steps(n node) []Step {
	var out []Step
	for _, s := range p.items(n) {
		out = append(out, p.step(s))
	}
	return out
}

// rule reads what stands beside what it answers.
func (p *parser) rule(m *mapping, to node) *Rule {
	r := &Rule{Line: to.Line, After: m.duration("after"), Times: int(m.number("times"))}
	with, answered := m.take("with")
	if to.isMap() {
		for i := 0; i+1 < len(to.Content); i += 2 {
			switch to.Content[i].Value {
			case "http":
				rm := p.mapping(to, "rule")
				v, _ := rm.take("http")
				rm.end()
				r.Request = p.request(v)
				r.Answer = p.answerOf(m, with, answered)
				return r
			case "twin":
				r.Called = p.askedOf(to)
				r.Reply = &Outcome{Name: "done"}
				if answered {
					r.Reply = p.reply(with)
				}
				return r
			}
		}
	}
	f := p.frame(to)
	r.Frame = &f
	switch {
	case !answered:
	case with.isList() && f.Topic != "":
		for _, v := range with.list() {
			r.With = append(r.With, p.message(v))
		}
	default:
		r.With = []Message{p.message(with)}
	}
	return r
}

func (p *parser) askedOf(n node) *Asked {
	m := p.mapping(n, "call of a twin")
	a := &Asked{Twin: m.string("twin")}
	p.asked(m, a)
	m.end()
	return a
}

// asked reads what is asked of a twin.
func (p *parser) asked(m *mapping, a *Asked) {
	a.Action, a.Property = m.string("action"), m.string("property")
	for _, key := range []string{"input", "value"} {
		if v, ok := m.take(key); ok {
			a.Input, a.HasInput = p.value(v), true
		}
	}
}

func (p *parser) reply(n node) *Outcome {
	m := p.mapping(n, "answer of a twin")
	o := p.outcome(m)
	m.end()
	if o == nil {
		p.fail(n, "want output, error or outcome")
	}
	return o
}

// outcome reads output, error and outcome; nil where there is none of them.
func (p *parser) outcome(m *mapping) *Outcome {
	o := &Outcome{}
	some := false
	if v, ok := m.take("output"); ok {
		o.Name, o.Output, o.HasOutput, some = "done", p.value(v), true, true
	}
	if v, ok := m.take("error"); ok {
		some, o.Name = true, ""
		if v.isText() {
			o.Message = v.text()
		} else {
			e := p.mapping(v, "error")
			if c, named := e.values["code"]; named && c.isText() && c.text() == "refused" {
				e.take("code") // what another twin's driver refuses
			}
			o.Code, o.Message = int(e.number("code")), e.string("message")
			e.end()
		}
	}
	if v, ok := m.take("outcome"); ok {
		some, o.Name = true, p.text(v)
		switch o.Name {
		case "done", "rejected", "timed_out", "unknown", "refused", "queued":
		default:
			p.fail(v, "outcome %q: want done, rejected, timed_out, unknown, queued or refused", o.Name)
		}
	}
	if !some {
		return nil
	}
	return o
}

func (p *parser) request(n node) *Request {
	m := p.mapping(n, "http request")
	r := &Request{Method: m.string("method"), URL: m.string("url")}
	if path, ok := m.take("path"); ok {
		r.URL = p.text(path)
	}
	if v, ok := m.take("headers"); ok {
		r.Headers = p.texts(v)
	}
	if v, ok := m.take("query"); ok {
		r.Query = p.texts(v)
	}
	if v, ok := m.take("body"); ok {
		f := p.frame(v)
		r.Body = &f
	}
	if v, ok := m.take("json"); ok {
		r.JSON, r.HasJSON = p.value(v), true
	}
	m.end()
	return r
}

// answerOf reads the answer to a request: with, or fail.
func (p *parser) answerOf(m *mapping, with node, answered bool) *Answer {
	if reason := m.string("fail"); reason != "" {
		return &Answer{Fail: reason}
	}
	if !answered {
		return &Answer{Status: 200}
	}
	return p.answer(with)
}

func (p *parser) answer(n node) *Answer {
	m := p.mapping(n, "http answer")
	a := &Answer{Status: int(m.number("status"))}
	if a.Status == 0 {
		a.Status = 200
	}
	if v, ok := m.take("headers"); ok {
		a.Headers = p.texts(v)
	}
	if v, ok := m.take("body"); ok {
		a.Body = p.data(v)
	}
	if v, ok := m.take("json"); ok {
		a.JSON, a.HasJSON = p.value(v), true
	}
	m.end()
	return a
}

// within is how long a step waits, in the clock's time.
func within(m *mapping) time.Duration { return m.duration("within") }
