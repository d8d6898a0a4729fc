// Package derive computes properties of a twin from those of others: it reads the formulas, which are expressions of package expr with
// aggregates over sets of twins, and keeps the aggregates up to date as one value after the other changes. It knows no store and no
// actors: who the twins of a set are, and what they say, is the caller's.
package derive

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/polluxhq/pollux/actors/expr"
)

// MaxAggregates of one formula.
const MaxAggregates = 8

// Kind says how a set is chosen.
type Kind string

// Kinds of sets.
const (
	// InZone: zone.twins(MODEL), zone("ID").twins(MODEL): the twins in a zone and in those below it; of a model, or all.
	InZone Kind = "zone"
	// InSystem: system.twins(NAME), system("ID").twins(NAME): the members of a system; of a name, or all.
	InSystem Kind = "system"
	// Related: related("TYPE"), related("-TYPE"): what the twin has a relation to, or against its direction.
	Related Kind = "related"
	// Named: twins("ID", …).
	Named Kind = "twins"
)

// Set says which twins an aggregate is over.
type Set struct {
	Kind Kind
	// Of is the id of the zone or system; empty: the twin's own.
	Of string
	// Args are the model or the member's name (none: all), the type of the relation, or the ids.
	Args []string
}

// Aggregate is a function over the values that the twins of a set have of a property.
type Aggregate struct {
	// Function is one of Functions.
	Function string
	Set      Set
	// Property; empty: of count, which counts the twins themselves.
	Property string
}

// Functions are the aggregates that there are.
var Functions = []string{"avg", "sum", "min", "max", "count", "any", "all", "first"}

// Formula is a compiled expression. It is safe for concurrent use.
type Formula struct {
	*expr.Expr
	Aggregates []Aggregate
}

// slot is the word that stands for an aggregate's value; nobody can write it.
func slot(i int) string { return fmt.Sprintf("@agg%d", i) }

// Words are those that stand for the values of a text's aggregates, in their order. Nobody can write them.
func Words() (all []expr.Word) {
	for i := range MaxAggregates {
		all = append(all, expr.Word{Name: slot(i), Type: cel.DynType})
	}
	return all
}

// Macros have an environment that has Words read aggregates: those of a text that is compiled with them are added to found.
func Macros(found *[]Aggregate) (macros []cel.Macro) {
	for _, name := range Functions {
		macros = append(macros, cel.GlobalMacro(name, 1, func(mef cel.MacroExprFactory, _ celast.Expr, args []celast.Expr) (celast.Expr, *common.Error) {
			a, where, why := aggregate(name, args[0])
			if why == "" && len(*found) == MaxAggregates {
				why = fmt.Sprintf("more than %d aggregates", MaxAggregates)
			}
			if why != "" {
				return nil, mef.NewError(where.ID(), why)
			}
			i := slices.IndexFunc(*found, func(b Aggregate) bool { return a.same(&b) })
			if i < 0 {
				i = len(*found)
				*found = append(*found, a)
			}
			return mef.NewIdent(slot(i)), nil
		}))
	}
	return macros
}

var environment = sync.OnceValues(func() (*expr.Env, error) { return expr.New(expr.ScopeTwin, Words()...) })

// Compile reads a formula. Errors are *expr.Error: they say where in the text.
func Compile(text string) (*Formula, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	f := &Formula{}
	if env, err = env.Extend(cel.Macros(Macros(&f.Aggregates)...)); err != nil {
		return nil, err
	}
	if f.Expr, err = env.Compile(text); err != nil {
		return nil, err
	}
	return f, nil
}

func (a *Aggregate) same(b *Aggregate) bool {
	return a.Function == b.Function && a.Property == b.Property && a.Set.Kind == b.Set.Kind && a.Set.Of == b.Set.Of && slices.Equal(a.Set.Args, b.Set.Args)
}

const wanted = `want SET.PROPERTY, such as zone.twins("room").temperature, where SET is zone.twins(MODEL), zone("ID").twins(MODEL), system.twins(NAME), ` +
	`system("ID").twins(NAME), related("TYPE"), related("-TYPE") or twins("ID", …)`

// aggregate reads the argument of a function. why says what is wrong where, or is empty.
func aggregate(function string, x celast.Expr) (a Aggregate, where celast.Expr, why string) {
	a.Function = function
	set := x
	switch {
	case x.Kind() == celast.SelectKind && !x.AsSelect().IsTestOnly():
		a.Property, set = x.AsSelect().FieldName(), x.AsSelect().Operand()
	case x.Kind() == celast.CallKind && x.AsCall().FunctionName() == "_[_]":
		name, ok := text(x.AsCall().Args()[1])
		if !ok {
			return a, x, "the property's name in [] is to be a text"
		}
		a.Property, set = name, x.AsCall().Args()[0]
	case function != "count":
		return a, x, wanted
	}
	if set.Kind() != celast.CallKind {
		return a, set, wanted
	}
	call := set.AsCall()
	for _, arg := range call.Args() {
		s, ok := text(arg)
		if !ok || s == "" {
			return a, arg, "texts are wanted here, as they are written"
		}
		a.Set.Args = append(a.Set.Args, s)
	}
	if why := a.Set.read(call); why != "" {
		return a, set, why
	}
	return a, set, ""
}

// read says which twins a call means.
func (s *Set) read(call celast.CallExpr) (why string) {
	n := len(s.Args)
	switch name := call.FunctionName(); {
	case !call.IsMemberFunction() && name == "related":
		s.Kind = Related
		if n != 1 {
			return `related wants one type of relation, such as related("feeds")`
		}
	case !call.IsMemberFunction() && name == "twins":
		s.Kind = Named
		if n == 0 {
			return `twins wants ids, such as twins("boiler")`
		}
	case call.IsMemberFunction() && name == "twins":
		if n > 1 {
			return "twins of a zone or system wants one model or name, or nothing"
		}
		return s.place(call.Target())
	default:
		return wanted
	}
	return ""
}

// place reads zone, zone("ID"), system and system("ID").
func (s *Set) place(x celast.Expr) (why string) {
	name := ""
	switch x.Kind() {
	case celast.IdentKind:
		name = x.AsIdent()
	case celast.CallKind:
		call := x.AsCall()
		id, ok := "", false
		if len(call.Args()) == 1 && !call.IsMemberFunction() {
			id, ok = text(call.Args()[0])
		}
		if !ok {
			return wanted
		}
		name, s.Of = call.FunctionName(), id
	}
	switch s.Kind = Kind(name); s.Kind {
	case InZone, InSystem:
		return ""
	}
	return wanted
}

func text(x celast.Expr) (string, bool) {
	if x.Kind() != celast.LiteralKind {
		return "", false
	}
	s, ok := x.AsLiteral().(types.String)
	return string(s), ok
}

// String is the aggregate as it is written.
func (a *Aggregate) String() string {
	text := a.Set.String()
	switch {
	case a.Property == "":
	case strings.ContainsFunc(a.Property, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}):
		text += fmt.Sprintf("[%q]", a.Property)
	default:
		text += "." + a.Property
	}
	return a.Function + "(" + text + ")"
}

// String is the set as it is written.
func (s *Set) String() string {
	args := make([]string, len(s.Args))
	for i, a := range s.Args {
		args[i] = fmt.Sprintf("%q", a)
	}
	list := "(" + strings.Join(args, ", ") + ")"
	switch {
	case s.Kind == Related || s.Kind == Named:
		return string(s.Kind) + list
	case s.Of != "":
		return fmt.Sprintf("%s(%q).twins%s", s.Kind, s.Of, list)
	}
	return string(s.Kind) + ".twins" + list
}
