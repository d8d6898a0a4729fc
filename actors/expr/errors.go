package expr

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
)

// Error says what is wrong with an expression, and where: Line and Column count from 1.
type Error struct {
	Line, Column int
	Text         string
}

func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Text) }

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noField    = regexp.MustCompile(`^undefined field '([^']*)'`)
	noFields   = regexp.MustCompile(`^type '(.*)' does not support field selection$`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
)

// explain makes an error of the first thing that CEL has to say. tree is nil where the text could not be parsed.
func (e *Env) explain(tree *celast.AST, issues *cel.Issues) error {
	all := issues.Errors()
	if len(all) == 0 {
		return &Error{1, 1, issues.Err().Error()}
	}
	first := all[0]
	return &Error{max(first.Location.Line(), 1), max(first.Location.Column()+1, 1), e.plain(tree, first)}
}

// plain says in our words what an error is.
func (e *Env) plain(tree *celast.AST, err *cel.Error) string {
	text := err.Message
	if m := undeclared.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("there is no word %s%s", m[1], meant(m[1], e.words, e.functionNames()))
	}
	if m := noField.FindStringSubmatch(text); m != nil {
		if o := objectOf(operandOf(tree, err.ExprID)); o != nil {
			hint := meant(m[1], o.names(), nil)
			if o == &twinObject && hint == "" {
				hint = fmt.Sprintf("; a property is twin.properties.%s", m[1])
			}
			return fmt.Sprintf("%s has no field %s%s", o.word, m[1], hint)
		}
	}
	if m := noOverload.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s does not go with %s", strings.Trim(m[1], "_@"), plainTypes(m[2]))
	}
	if m := noFields.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("a %s has no fields", typeNames.Replace(m[1]))
	}
	text, _, _ = strings.Cut(strings.TrimPrefix(text, "Syntax error: "), " expecting {")
	return text
}

// operandOf gives the word whose field an expression selects.
func operandOf(tree *celast.AST, id int64) (word string) {
	if tree == nil {
		return ""
	}
	celast.PostOrderVisit(tree.Expr(), celast.NewExprVisitor(func(x celast.Expr) {
		if x.ID() == id && x.Kind() == celast.SelectKind && x.AsSelect().Operand().Kind() == celast.IdentKind {
			word = x.AsSelect().Operand().AsIdent()
		}
	}))
	return word
}

func (e *Env) functionNames() (all []string) {
	for name := range e.cel.Functions() {
		if name != "" && name[0] >= 'a' && name[0] <= 'z' {
			all = append(all, name)
		}
	}
	for _, m := range e.cel.Macros() {
		all = append(all, m.Function())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// meant says which names could have been meant; where none is near, which words there are, but for those that nobody can write.
func meant(got string, names, more []string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "@") })
	if near := Nearest(got, slices.Concat(names, more)); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return "; there are " + strings.Join(names, ", ")
}

// Nearest gives those of the names that are the fewest changes of a letter away, at most three, and none that is more than a third
// of the name away.
func Nearest(got string, names []string) (near []string) {
	best := max(1, len(got)/3)
	for _, n := range names {
		d := Edits(strings.ToLower(got), strings.ToLower(n), best)
		if d > best {
			continue
		}
		if d < best {
			near, best = nil, d
		}
		if !slices.Contains(near, n) && len(near) < 3 {
			near = append(near, n)
		}
	}
	return near
}

// Edits is how many letters have to be changed, added, left out or exchanged with their neighbour to make b of a (optimal string
// alignment); a number above limit means more than limit.
func Edits(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) > limit || len(y)-len(x) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}

var typeNames = strings.NewReplacer("wrapper(", "", "pollux.Twin", "twin", "pollux.Message", "message", "pollux.Entry", "entry", "string", "text", "double", "number", "int",
	"whole number", "dyn", "any value", "bool", "true or false", "google.protobuf.", "", "(", "", ")", "")

func plainTypes(signature string) string {
	signature = strings.Replace(signature, ".(", ", ", 1) // of what a function is called on
	all := strings.Split(strings.TrimSuffix(strings.TrimPrefix(signature, "("), ")"), ", ")
	for i := range all {
		all[i] = typeNames.Replace(all[i])
	}
	return strings.Join(all, " and ")
}

func plainType(t *cel.Type) string { return typeNames.Replace(t.String()) }
