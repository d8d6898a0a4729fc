package automation

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
)

// maxPrograms bounds the expressions that are kept compiled.
const maxPrograms = 10_000

// programs compiles expressions, and keeps them: rules of one template, and actions, have the same ones. Safe for concurrent use.
type programs struct {
	env *expr.Env
	// kinds are environments in which the value and the one before are of a kind.
	kinds map[string]*expr.Env

	mu       sync.Mutex
	compiled map[string]*program
}

// program is a compiled expression with the aggregates that it reads.
type program struct {
	*expr.Expr
	aggregates []derive.Aggregate
	past       bool // it asks the history
}

// pastWord is what history(…) reads; nobody can write it.
const pastWord = "@past"

func newPrograms() (*programs, error) {
	anything := cel.MapType(cel.StringType, cel.DynType)
	words := append(derive.Words(), expr.Word{Name: "twins", Type: anything}, expr.Word{Name: "system", Type: anything},
		expr.Word{Name: "zone", Type: anything}, expr.Word{Name: "rule", Type: cel.StringType}, expr.Word{Name: "due", Type: cel.TimestampType},
		expr.Word{Name: "count", Type: cel.DoubleType}, expr.Word{Name: pastWord, Type: cel.DynType})
	env, err := expr.New(expr.ScopeTwin|expr.ScopeChange, words...)
	if err != nil {
		return nil, err
	}
	p := &programs{env: env, kinds: map[string]*expr.Env{}, compiled: map[string]*program{}}
	for kind, is := range map[string]*cel.Type{"number": cel.DoubleType, "text": cel.StringType, "true or false": cel.BoolType} {
		is = cel.NullableType(is) // there may be none before
		if p.kinds[kind], err = expr.New(expr.ScopeTwin|expr.ScopeChange,
			append(slices.Clone(words), expr.Word{Name: "value", Type: is}, expr.Word{Name: "previous", Type: is})...); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// read compiles a text.
func (p *programs) read(env *expr.Env, compile func(*expr.Env) (*expr.Expr, error)) (*program, error) {
	x := &program{}
	env, err := env.Extend(cel.Macros(append(derive.Macros(&x.aggregates), pastMacro(&x.past))...))
	if err != nil {
		return nil, err
	}
	x.Expr, err = compile(env)
	return x, err
}

// compile gives a compiled expression. Its errors say where in the text.
func (p *programs) compile(source string) (*program, error) {
	p.mu.Lock()
	x := p.compiled[source]
	p.mu.Unlock()
	if x != nil {
		return x, nil
	}
	x, err := p.read(p.env, func(env *expr.Env) (*expr.Expr, error) { return env.Compile(source) })
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
	_, err := p.read(p.env, func(env *expr.Env) (*expr.Expr, error) { return env.Condition(source) })
	return err
}

// reads says whether an expression has a word.
func (p *programs) reads(source, word string) bool {
	x, err := p.compile(source)
	return err == nil && x.Uses().Word(word)
}

// holds evaluates a condition.
func (p *programs) holds(source string, s *scope) (bool, error) {
	x, err := p.compile(source)
	if err != nil {
		return false, err
	}
	in, err := s.input(x)
	if err != nil {
		return false, err
	}
	return x.Holds(in)
}

// value evaluates an expression.
func (p *programs) value(source string, s *scope) (state.Value, error) {
	x, err := p.compile(source)
	if err != nil {
		return state.Value{}, err
	}
	in, err := s.input(x)
	if err != nil {
		return state.Value{}, err
	}
	return x.Eval(in)
}

// template says what is wrong with a text that may have expressions in it, or nil.
func (p *programs) template(text string) error {
	parts, err := expr.Pieces(text)
	for i := 1; i < len(parts) && err == nil; i += 2 {
		if _, err = p.compile(parts[i]); err != nil {
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
	parts, err := expr.Pieces(text)
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
