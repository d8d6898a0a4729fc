package expr

import (
	"slices"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Uses is what an expression reads. Whoever wakes up for changes wakes up for those only.
type Uses struct {
	// Words that it has: twin, value, message …
	Words []string
	// Fields of twin, such as labels or properties.
	Fields []string
	// Properties are the names of those that it reads of twin.properties, twin.times and twin.desired. All: it may read any.
	Properties []string
	All        bool
	// Twins are the names of others that it names, as in twins["hall"].
	Twins []string
	// Now: it calls now(), so that it changes by itself.
	Now bool
}

// Reads says whether the expression may read a property of the twin.
func (u *Uses) Reads(property string) bool {
	return u.All || slices.Contains(u.Properties, property)
}

// Field says whether the expression reads a field of twin.
func (u *Uses) Field(name string) bool { return slices.Contains(u.Fields, name) }

// Word says whether the expression has a word.
func (u *Uses) Word(name string) bool { return slices.Contains(u.Words, name) }

// twinsWord names other twins.
const twinsWord = "twins"

func usesOf(a *celast.AST) Uses {
	u := &Uses{}
	u.visit(a.Expr(), "", false)
	for _, list := range []*[]string{&u.Words, &u.Fields, &u.Properties, &u.Twins} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return *u
}

// visit goes down. key is what is read of the expression's value where that is known (keyed).
func (u *Uses) visit(x celast.Expr, key string, keyed bool) {
	switch x.Kind() {
	case celast.IdentKind:
		if x.AsIdent() == nowWord {
			u.Now = true
		} else if x.AsIdent() != "" && x.AsIdent()[0] != '@' {
			u.Words = append(u.Words, x.AsIdent())
			if x.AsIdent() == twinsWord && keyed {
				u.Twins = append(u.Twins, key)
			}
		}
	case celast.SelectKind:
		u.selected(x.AsSelect(), key, keyed)
	case celast.CallKind:
		call := x.AsCall()
		if args := call.Args(); len(args) == 2 && (call.FunctionName() == "_[_]" || call.FunctionName() == "_[?_]") {
			name, ok := literal(args[1])
			u.visit(args[0], name, ok)
			u.visit(args[1], "", false)
			return
		} else if len(args) == 2 && call.FunctionName() == "@in" {
			name, ok := literal(args[0])
			u.visit(args[1], name, ok)
			u.visit(args[0], "", false)
			return
		}
		if call.IsMemberFunction() {
			u.visit(call.Target(), "", false)
		}
		for _, arg := range call.Args() {
			u.visit(arg, "", false)
		}
	case celast.ListKind:
		for _, e := range x.AsList().Elements() {
			u.visit(e, "", false)
		}
	case celast.MapKind:
		for _, e := range x.AsMap().Entries() {
			u.visit(e.AsMapEntry().Key(), "", false)
			u.visit(e.AsMapEntry().Value(), "", false)
		}
	case celast.ComprehensionKind:
		c := x.AsComprehension()
		for _, part := range []celast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
			u.visit(part, "", false)
		}
	}
}

func (u *Uses) selected(s celast.SelectExpr, key string, keyed bool) {
	if op := s.Operand(); op.Kind() == celast.IdentKind && op.AsIdent() == "twin" {
		u.Words, u.Fields = append(u.Words, "twin"), append(u.Fields, s.FieldName())
		switch name := s.FieldName(); {
		case name == "location":
			u.Properties = append(u.Properties, "location", "position", "gps", "lat", "latitude", "lon", "lng", "longitude")
		case name != "properties" && name != "times" && name != "desired":
		case keyed:
			u.Properties = append(u.Properties, key)
		default:
			u.All = true
		}
		return
	}
	u.visit(s.Operand(), s.FieldName(), true)
}

func literal(x celast.Expr) (string, bool) {
	if x.Kind() != celast.LiteralKind {
		return "", false
	}
	s, ok := x.AsLiteral().(types.String)
	return string(s), ok
}
