package expr

import (
	"fmt"
	"strings"
)

// Pieces takes a text apart: every second piece was between `${` and `}`, and is an expression.
func Pieces(text string) (parts []string, err error) {
	for {
		before, rest, found := strings.Cut(text, "${")
		parts = append(parts, before)
		if !found {
			return parts, nil
		}
		end := closing(rest)
		if end < 0 {
			return nil, fmt.Errorf("${%s: it has no end", rest)
		}
		parts = append(parts, rest[:end])
		text = rest[end+1:]
	}
}

// closing finds the brace that ends an expression: none in a literal, and none of a map within.
func closing(text string) int {
	depth := 1
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
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
				return i
			}
		}
	}
	return -1
}

// Text is a text with expressions in it. It does not change, and is safe for concurrent use.
type Text struct {
	parts []string // every second one is that of an expression
	exprs []*Expr
}

// Text compiles a text with expressions in `${…}`. An error says which of them is wrong, and where in it.
func (e *Env) Text(source string) (*Text, error) {
	parts, err := Pieces(source)
	if err != nil {
		return nil, err
	}
	t := &Text{parts: parts}
	for i := 1; i < len(parts); i += 2 {
		x, err := e.Compile(parts[i])
		if err != nil {
			return nil, fmt.Errorf("${%s}: %w", parts[i], err)
		}
		t.exprs = append(t.exprs, x)
	}
	return t, nil
}

// Fill puts the values in: texts as they are, all else as JSON. What cannot be computed shows as `?`.
func (t *Text) Fill(in *Input) string {
	var b strings.Builder
	for i, part := range t.parts {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		v, err := t.exprs[i/2].Eval(in)
		if err != nil {
			b.WriteString("?")
		} else if text, ok := v.Text(); ok {
			b.WriteString(text)
		} else {
			b.Write(v.AppendJSON(nil))
		}
	}
	return b.String()
}
