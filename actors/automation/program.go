package automation

import (
	"fmt"
	"strings"
	"sync"

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
