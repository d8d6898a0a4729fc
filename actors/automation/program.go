package automation

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
)

// maxPrograms bounds the expressions that are kept compiled.
const maxPrograms = 10_000

// programs compiles expressions, and keeps them: rules of one template, and actions, have the same ones. Safe for concurrent use.
type programs struct {
	env *expr.Env

	mu       sync.Mutex
	compiled map[string]*expr.Expr
}

func newPrograms() (*programs, error) {
	anything := cel.MapType(cel.StringType, cel.DynType)
	env, err := expr.New(expr.ScopeTwin|expr.ScopeChange, expr.Word{Name: "twins", Type: anything}, expr.Word{Name: "system", Type: anything},
		expr.Word{Name: "zone", Type: anything}, expr.Word{Name: "rule", Type: cel.StringType}, expr.Word{Name: "due", Type: cel.TimestampType},
		expr.Word{Name: "count", Type: cel.DoubleType})
	if err != nil {
		return nil, err
	}
	return &programs{env: env, compiled: map[string]*expr.Expr{}}, nil
}

// compile gives a compiled expression. Its errors say where in the text.
func (p *programs) compile(source string) (*expr.Expr, error) {
	p.mu.Lock()
	x := p.compiled[source]
	p.mu.Unlock()
	if x != nil {
		return x, nil
	}
	x, err := p.env.Compile(source)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.compiled) >= maxPrograms {
		clear(p.compiled)
	}
	p.compiled[source] = x
	return x, nil
}

// condition says what is wrong with a condition, or nil.
func (p *programs) condition(source string) error {
	if source == "" {
		return nil
	}
	_, err := p.env.Condition(source)
	return err
}

// holds evaluates a condition.
func (p *programs) holds(source string, s *scope) (bool, error) {
	x, err := p.compile(source)
	if err != nil {
		return false, err
	}
	in := s.input(x)
	return x.Holds(in)
}

// value evaluates an expression.
func (p *programs) value(source string, s *scope) (state.Value, error) {
	x, err := p.compile(source)
	if err != nil {
		return state.Value{}, err
	}
	return x.Eval(s.input(x))
}

// pieces takes a text apart: what is between `${` and `}` is an expression.
func pieces(text string) (parts []string, err error) {
	for {
		before, rest, found := strings.Cut(text, "${")
		parts = append(parts, before)
		if !found {
			return parts, nil
		}
		end, depth := -1, 1
		quote := byte(0)
		for i := 0; i < len(rest) && end < 0; i++ {
			switch c := rest[i]; {
			case quote != 0 && c == '\\':
				i++
			case quote != 0:
				if c == quote {
					quote = 0
				}
			case c == '"' || c == '\'':
				quote = c
			case c == '{':
				depth++
			case c == '}':
				if depth--; depth == 0 {
					end = i
				}
			}
		}
		if end < 0 {
			return nil, fmt.Errorf("${%s: it has no end", rest)
		}
		parts = append(parts, rest[:end])
		text = rest[end+1:]
	}
}

// template says what is wrong with a text that may have expressions in it, or nil.
func (p *programs) template(text string) error {
	parts, err := pieces(text)
	for i := 1; i < len(parts) && err == nil; i += 2 {
		if _, err = p.env.Compile(parts[i]); err != nil {
			err = fmt.Errorf("${%s}: %w", parts[i], err)
		}
	}
	return err
}

// text puts values into a text. What cannot be computed shows as `?`.
func (p *programs) text(text string, s *scope) string {
	if !strings.Contains(text, "${") {
		return text
	}
	parts, err := pieces(text)
	if err != nil {
		return text
	}
	var b strings.Builder
	for i, part := range parts {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		v, err := p.value(part, s)
		if err != nil {
			b.WriteString("?")
		} else if t, ok := v.Text(); ok {
			b.WriteString(t)
		} else {
			b.Write(v.AppendJSON(nil))
		}
	}
	return b.String()
}

// scope is what expressions of a firing, or of an evaluation, may read.
type scope struct {
	world   World
	project string
	name    string
	subject string
	twin    *expr.Twin
	change  expr.Change
	due     time.Time
	count   int
	now     time.Time
	// read notes what was read, for those who ask why; nil: nobody does.
	read map[string]string
}

// input has the words that the expression has.
func (s *scope) input(x *expr.Expr) *expr.Input {
	u := x.Uses()
	in := &expr.Input{Now: s.now, Twin: s.twin, Change: &s.change}
	vars := map[string]any{}
	if u.Word("twins") {
		vars["twins"] = newLazy(s.twinByName)
	}
	if u.Word("system") {
		id := s.world.SystemOf(s.subject)
		members := s.world.Members(id)
		vars["system"] = newLazy(func(name string) (any, bool) {
			switch name {
			case "id":
				return id, id != ""
			}
			return s.twinByName(members[name])
		})
	}
	if u.Word("zone") {
		vars["zone"] = s.zone()
	}
	if u.Word("rule") {
		vars["rule"] = s.name
	}
	if u.Word("due") {
		vars["due"] = s.due
	}
	if u.Word("count") {
		vars["count"] = float64(s.count)
	}
	if len(vars) > 0 {
		in.Vars = vars
	}
	s.note(u)
	return in
}

// note keeps the values that an expression reads of its twin.
func (s *scope) note(u *expr.Uses) {
	if s.read == nil || s.twin == nil || s.twin.State == nil {
		return
	}
	for i := range s.twin.State.Properties {
		if p := &s.twin.State.Properties[i]; !u.All && u.Reads(p.Name.Value()) {
			s.read["twin.properties."+p.Name.Value()] = string(p.Value.AppendJSON(nil))
		}
	}
	for _, f := range u.Fields {
		switch f {
		case "status":
			s.read["twin.status"] = jsonOf(expr.StatusWord(s.twin.State.Shown(s.twin.Since)))
		case "zone":
			s.read["twin.zone"] = jsonOf(s.twin.Config.Zone)
		}
	}
}

// twinByName gives a twin as expressions see others: a map of its values by their names.
func (s *scope) twinByName(id string) (any, bool) {
	if id == "" {
		return nil, false
	}
	if !strings.Contains(id, "/") {
		id = s.project + "/" + id
	}
	if !strings.HasPrefix(id, s.project+"/") {
		return nil, false
	}
	v, ok := s.world.View(id)
	if !ok {
		return nil, false
	}
	properties := map[string]any{}
	status := expr.StatusWord(0)
	if v.State != nil {
		status = expr.StatusWord(v.State.Shown(v.Since))
		for i := range v.State.Properties {
			p := &v.State.Properties[i]
			properties[p.Name.Value()] = p.Value.Any()
		}
	}
	return map[string]any{"id": id, "zone": v.Config.Zone, "status": status,
		"properties": newLazy(func(name string) (any, bool) {
			x, ok := properties[name]
			if ok && s.read != nil {
				s.read[id+"."+name] = jsonOf(x)
			}
			return x, ok
		})}, true
}

func (s *scope) zone() map[string]any {
	id := ""
	if s.twin != nil {
		id = s.twin.Config.Zone
	}
	z := s.world.Zone(id)
	if z == nil {
		return map[string]any{"id": id, "title": "", "kind": "", "within": []string{}}
	}
	var up []string
	for at, n := z, 0; at != nil && n < 32; at, n = s.world.Zone(at.Parent), n+1 {
		up = append(up, at.Id)
	}
	return map[string]any{"id": z.Id, "title": z.Title, "kind": z.Kind, "within": up}
}
