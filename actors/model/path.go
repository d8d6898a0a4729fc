package model

import (
	"strconv"
	"strings"
)

// maxSteps bounds a path.
const maxSteps = 16

// node is a place in messages that the model knows: a trie of the paths' steps. An element of an array is the step of its
// number.
type node struct {
	children map[string]*node
	// properties are those whose values are here.
	properties []*Property
	// slot, where not 0, is the number under which what is here is remembered while a message is read.
	slot int
}

// at gives the node at the end of a path, made where it is not there.
func (n *node) at(steps []string) *node {
	for _, step := range steps {
		if n.children == nil {
			n.children = map[string]*node{}
		}
		if n.children[step] == nil {
			n.children[step] = &node{}
		}
		n = n.children[step]
	}
	return n
}

// slot gives the number of what is remembered of a path; 0 for an empty one.
func (m *Model) slot(where, path string) (int, error) {
	if path == "" {
		return 0, nil
	}
	steps, err := parsePath(where, path)
	if err != nil {
		return 0, err
	}
	n := m.root.at(steps)
	if n.slot == 0 {
		m.slots++
		n.slot = m.slots
	}
	return n.slot, nil
}

// parsePath reads a path: a JSON pointer (/data/0/value), or names with dots and brackets, with or without $ before them
// ($.data[0].value). Alone $ is the whole message.
func parsePath(where, text string) ([]string, error) {
	var steps []string
	var err error
	if strings.HasPrefix(text, "/") {
		for _, s := range strings.Split(text[1:], "/") {
			steps = append(steps, strings.NewReplacer("~1", "/", "~0", "~").Replace(s))
		}
	} else if steps, err = dotted(where, text); err != nil {
		return nil, err
	}
	if len(steps) > maxSteps {
		return nil, bad(where, "%d steps, %d are allowed", len(steps), maxSteps)
	}
	return steps, nil
}

func dotted(where, text string) ([]string, error) {
	wrong := func() ([]string, error) {
		return nil, bad(where, "%s is no path such as /data/0/value or data[0].value", quoted(text))
	}
	rest := text
	if strings.HasPrefix(rest, "$") {
		if rest = rest[1:]; rest == "" {
			return nil, nil
		}
		if rest[0] != '.' && rest[0] != '[' {
			return wrong()
		}
		rest = strings.TrimPrefix(rest, ".")
	}
	var steps []string
	for {
		if strings.HasPrefix(rest, "[") {
			inner, tail, ok := strings.Cut(rest[1:], "]")
			if !ok {
				return wrong()
			}
			if n := len(inner); n > 2 && (inner[0] == '\'' || inner[0] == '"') && inner[n-1] == inner[0] {
				inner = inner[1 : n-1]
			} else if _, err := strconv.ParseUint(inner, 10, 16); err != nil {
				return wrong()
			}
			steps, rest = append(steps, inner), tail
		} else {
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return wrong()
			}
			steps, rest = append(steps, rest[:end]), rest[end:]
		}
		switch {
		case rest == "":
			return steps, nil
		case rest[0] == '.':
			if rest = rest[1:]; rest == "" {
				return wrong()
			}
		case rest[0] != '[':
			return wrong()
		}
	}
}
