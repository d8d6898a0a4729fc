// Package expr is the language of conditions and filters: CEL (cel.dev) with the same words everywhere, in routes, in lists and
// watches of twins, in search, in rules and derived properties. It compiles a text once, says what is wrong with it and where, says
// what the expression reads, and evaluates it without building maps of what it does not read.
//
// It knows nothing of stores or actors: whoever evaluates gives an Input.
package expr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/polluxhq/pollux/actors/state"
)

const (
	// MaxLength of an expression, in bytes.
	MaxLength = 2000
	// maxCost bounds what an expression with a loop may compute, in CEL's units: it runs in an actor's turn. Without a loop an
	// expression is bounded by its length.
	maxCost = 10_000
	// maxNesting bounds how deep an expression goes.
	maxNesting = 64
)

// ErrMissing is in the error of an evaluation that read a property, label or part which is not there. A filter takes it for "does
// not hold".
var ErrMissing = errors.New("there is no such value")

// ErrMixed is in the error of an evaluation that got values of kinds which do not go together.
var ErrMixed = errors.New("the values that it got do not go together: a text with a number, or one that is null")

// Env is a set of words that expressions are compiled with. It does not change, and is safe for concurrent use.
type Env struct {
	cel   *cel.Env
	words []string
	dyn   map[string]bool // words whose type is known when they are evaluated only
}

// Word is one that an owner adds to the common ones; Input.Vars has its value.
type Word struct {
	Name string
	Type *cel.Type
}

var base = sync.OnceValues(func() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	opts := []cel.EnvOption{cel.CustomTypeAdapter(adapter{registry}), cel.CustomTypeProvider(newProvider(registry)),
		cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true), cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(MaxLength), ext.Strings(), ext.Math()}
	return cel.NewEnv(append(opts, functions()...)...)
})

// New makes an environment with the words of the scopes, and with others; one of those that has the name of a scope's takes its place.
func New(scope Scope, more ...Word) (*Env, error) {
	b, err := base()
	if err != nil {
		return nil, fmt.Errorf("words of expressions: %w", err)
	}
	e := &Env{dyn: map[string]bool{}}
	opts := []cel.EnvOption{cel.Variable(nowWord, cel.TimestampType)}
	own := slices.DeleteFunc(scope.words(), func(w Word) bool {
		return slices.ContainsFunc(more, func(x Word) bool { return x.Name == w.Name })
	})
	for _, w := range append(own, more...) {
		opts = append(opts, cel.Variable(w.Name, w.Type))
		e.words = append(e.words, w.Name)
		if w.Type.IsExactType(cel.DynType) || w.Type.IsExactType(cel.DoubleType) || w.Type.IsExactType(cel.NullableType(cel.DoubleType)) {
			e.dyn[w.Name] = true
		}
	}
	if e.cel, err = b.Extend(opts...); err != nil {
		return nil, fmt.Errorf("words of expressions: %w", err)
	}
	return e, nil
}

// Expr is a compiled expression. It is safe for concurrent use.
type Expr struct {
	source  string
	program cel.Program
	ast     *celast.AST
	uses    Uses
	kind    *cel.Type
}

// Condition compiles what must be true or false. An error is an *Error: it says where in the text.
func (e *Env) Condition(source string) (*Expr, error) {
	x, err := e.Compile(source)
	if err != nil {
		return nil, err
	}
	if !x.kind.IsExactType(cel.BoolType) && !x.kind.IsExactType(cel.DynType) && !x.kind.IsExactType(cel.NullableType(cel.BoolType)) {
		return nil, &Error{1, 1, fmt.Sprintf("it is a %s; want what is true or false", plainType(x.kind))}
	}
	return x, nil
}

// Compile compiles what may have any value. An error is an *Error: it says where in the text.
func (e *Env) Compile(source string) (*Expr, error) {
	if len(source) > MaxLength {
		return nil, &Error{1, MaxLength, fmt.Sprintf("it has %d bytes; %d are the most", len(source), MaxLength)}
	}
	if strings.TrimSpace(source) == "" {
		return nil, &Error{1, 1, "it is empty"}
	}
	parsed, issues := e.cel.Parse(source)
	if issues.Err() != nil {
		return nil, e.explain(nil, issues)
	}
	e.wholeNumbers(parsed.NativeRep())
	tree := celast.Copy(parsed.NativeRep())
	checked, issues := e.cel.Check(parsed)
	if issues.Err() != nil {
		return nil, e.explain(tree, issues)
	}
	opts := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops(checked.NativeRep()) {
		opts = append(opts, cel.CostLimit(maxCost))
	}
	program, err := e.cel.Program(checked, opts...)
	if err != nil {
		return nil, &Error{1, 1, err.Error()}
	}
	return &Expr{source: source, program: program, ast: checked.NativeRep(), uses: usesOf(checked.NativeRep()), kind: checked.OutputType()}, nil
}

// loops says whether the expression goes through a list or map.
func loops(a *celast.AST) bool {
	found := false
	celast.PostOrderVisit(a.Expr(), celast.NewExprVisitor(func(x celast.Expr) {
		found = found || x.Kind() == celast.ComprehensionKind
	}))
	return found
}

// String is the expression's text.
func (x *Expr) String() string { return x.source }

// Uses says what the expression reads. The caller must not change it.
func (x *Expr) Uses() *Uses { return &x.uses }

// Eval gives the expression's value. Times become texts of RFC 3339, durations texts such as 90s.
func (x *Expr) Eval(in *Input) (state.Value, error) {
	out, _, err := x.program.Eval(in)
	if err != nil {
		return state.Value{}, evalError(err)
	}
	return fromVal(out)
}

// Holds evaluates a condition.
func (x *Expr) Holds(in *Input) (bool, error) {
	out, _, err := x.program.Eval(in)
	if err != nil {
		return false, evalError(err)
	}
	yes, ok := out.(types.Bool)
	if !ok {
		return false, fmt.Errorf("it is a %s, not true or false", out.Type().TypeName())
	}
	return bool(yes), nil
}

// Matches evaluates a filter: what reads a value that is not there does not hold, and neither does what cannot be computed of it.
func (x *Expr) Matches(in *Input) bool {
	yes, err := x.Holds(in)
	return err == nil && yes
}

// evalError makes an error of CEL one of ours.
func evalError(err error) error {
	text := err.Error()
	if key, ok := strings.CutPrefix(text, "no such key: "); ok {
		return fmt.Errorf("%w: %s", ErrMissing, key)
	}
	if strings.HasPrefix(text, "no such overload") {
		return ErrMixed
	}
	if strings.Contains(text, "cost limit exceeded") {
		return fmt.Errorf("it computes too much: more than %d steps", maxCost)
	}
	return err
}

// wholeNumbers makes literals such as 2 in value * 2 numbers of the values' kind: JSON has one kind of number, CEL has three that
// do not mix in arithmetic.
func (e *Env) wholeNumbers(a *celast.AST) {
	fac := celast.NewExprFactory()
	celast.PostOrderVisit(a.Expr(), celast.NewExprVisitor(func(x celast.Expr) {
		if x.Kind() != celast.CallKind || !slices.Contains(mixing, x.AsCall().FunctionName()) || len(x.AsCall().Args()) != 2 {
			return
		}
		args := x.AsCall().Args()
		for i, arg := range args {
			if !e.number(args[1-i]) {
				continue
			}
			each := []celast.Expr{arg}
			if arg.Kind() == celast.ListKind {
				each = arg.AsList().Elements()
			}
			for _, arg := range each {
				if arg.Kind() != celast.LiteralKind {
					continue
				}
				if n, ok := arg.AsLiteral().(types.Int); ok {
					arg.SetKindCase(fac.NewLiteral(arg.ID(), types.Double(n)))
				}
			}
		}
	}))
}

// mixing is where whole numbers and others do not mix by themselves.
var (
	arithmetic = []string{"_+_", "_-_", "_*_", "_/_"}
	mixing     = append(slices.Clone(arithmetic), "_==_", "_!=_", "@in")
)

// number says whether an expression's value comes from JSON, or from a function that gives a number.
func (e *Env) number(x celast.Expr) bool {
	switch x.Kind() {
	case celast.IdentKind:
		return e.dyn[x.AsIdent()]
	case celast.SelectKind:
		if op := x.AsSelect().Operand(); op.Kind() == celast.IdentKind {
			o := objectOf(op.AsIdent())
			return o != nil && o.json(x.AsSelect().FieldName()) || e.dyn[op.AsIdent()]
		}
		return e.number(x.AsSelect().Operand())
	case celast.CallKind:
		call := x.AsCall()
		switch {
		case call.FunctionName() == "_[_]":
			return e.number(call.Args()[0])
		case slices.Contains(arithmetic, call.FunctionName()), call.FunctionName() == "-_":
			return slices.ContainsFunc(call.Args(), e.number)
		}
		return slices.Contains(doubles, call.FunctionName())
	}
	return false
}

// Extend gives an environment with more options of CEL's, such as macros.
func (e *Env) Extend(opts ...cel.EnvOption) (*Env, error) {
	x := *e
	var err error
	if x.cel, err = e.cel.Extend(opts...); err != nil {
		return nil, fmt.Errorf("words of expressions: %w", err)
	}
	return &x, nil
}
