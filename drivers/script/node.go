package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Error is what is wrong with a script, and where.
type Error struct {
	Path string
	Line int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Text) }

// parser reads one file. The first fault ends it, by a panic that Parse takes.
type parser struct{ path string }

func (p *parser) fail(n node, format string, args ...any) {
	panic(&Error{p.path, n.Line, fmt.Sprintf(format, args...)})
}

// node is a YAML node, with aliases resolved.
type node struct{ *yaml.Node }

func resolve(n *yaml.Node) node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return node{n}
}

func (n node) isText() bool { return n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" }
func (n node) isNull() bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }
func (n node) isList() bool { return n.Kind == yaml.SequenceNode }
func (n node) isMap() bool  { return n.Kind == yaml.MappingNode }
func (n node) text() string { return n.Value }

func (n node) list() []node {
	out := make([]node, len(n.Content))
	for i, c := range n.Content {
		out[i] = resolve(c)
	}
	return out
}

func (n node) kind() string {
	switch {
	case n.isNull():
		return "nothing"
	case n.isList():
		return "a list"
	case n.isMap():
		return "a mapping"
	}
	return strconv.Quote(n.Value)
}

func (p *parser) text(n node) string {
	if !n.isText() {
		p.fail(n, "want a text, not %s", n.kind())
	}
	return n.Value
}

func (p *parser) items(n node) []node {
	if !n.isList() {
		p.fail(n, "want a list, not %s", n.kind())
	}
	return n.list()
}

func (p *parser) duration(n node) time.Duration {
	d, err := time.ParseDuration(p.text(n))
	if err != nil || d < 0 {
		p.fail(n, "%q is no duration; write 500ms, 10s or 1h30m", n.Value)
	}
	return d
}

func (p *parser) time(n node) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, p.text(n), time.UTC); err == nil {
			return t
		}
	}
	p.fail(n, "%q is no time; write 2026-01-05T08:00:00Z", n.Value)
	return time.Time{}
}

// value reads any value as encoding/json would have it. Dates stay texts.
func (p *parser) value(n node) any {
	switch {
	case n.isNull():
		return nil
	case n.isList():
		out := make([]any, 0, len(n.Content))
		for _, c := range n.list() {
			out = append(out, p.value(c))
		}
		return out
	case n.isMap():
		return p.object(n)
	}
	switch n.ShortTag() {
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		var f float64
		if err := n.Decode(&f); err != nil {
			p.fail(n, "%q is no number: %v", n.Value, err)
		}
		return f
	}
	return n.Value
}

func (p *parser) object(n node) map[string]any {
	m := p.mapping(n, "object")
	out := make(map[string]any, len(m.values))
	for _, k := range m.keys {
		out[k] = p.value(m.values[k])
	}
	return out
}

// texts reads a mapping of texts.
func (p *parser) texts(n node) map[string]string {
	m := p.mapping(n, "mapping of texts")
	out := make(map[string]string, len(m.values))
	for _, k := range m.keys {
		out[k] = p.text(m.values[k])
	}
	return out
}

// mapping is a mapping that is read key by key; end refuses what nobody took.
type mapping struct {
	p      *parser
	what   string
	keys   []string
	values map[string]node
	lines  map[string]node
	asked  []string
}

func (p *parser) mapping(n node, what string) *mapping {
	if !n.isMap() {
		p.fail(n, "want a mapping (%s), not %s", what, n.kind())
	}
	m := &mapping{p: p, what: what, values: map[string]node{}, lines: map[string]node{}}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := resolve(n.Content[i])
		if _, twice := m.values[k.Value]; twice {
			p.fail(k, "%s: %q is there twice", what, k.Value)
		}
		m.keys = append(m.keys, k.Value)
		m.values[k.Value], m.lines[k.Value] = resolve(n.Content[i+1]), k
	}
	return m
}

func (m *mapping) take(key string) (node, bool) {
	m.asked = append(m.asked, key)
	v, ok := m.values[key]
	if ok {
		delete(m.values, key)
	}
	return v, ok
}

func (m *mapping) string(key string) string {
	if v, ok := m.take(key); ok {
		return m.p.text(v)
	}
	return ""
}

func (m *mapping) bool(key string) bool {
	v, ok := m.take(key)
	if !ok {
		return false
	}
	b, is := m.p.value(v).(bool)
	if !is {
		m.p.fail(v, "%s: want true or false, not %s", key, v.kind())
	}
	return b
}

func (m *mapping) number(key string) float64 {
	v, ok := m.take(key)
	if !ok {
		return 0
	}
	f, is := m.p.value(v).(float64)
	if !is {
		m.p.fail(v, "%s: want a number, not %s", key, v.kind())
	}
	return f
}

func (m *mapping) duration(key string) time.Duration {
	if v, ok := m.take(key); ok {
		return m.p.duration(v)
	}
	return 0
}

// end refuses keys that nobody asked for.
func (m *mapping) end() {
	for _, k := range m.keys {
		if _, left := m.values[k]; left {
			asked := slices.Clone(m.asked)
			slices.Sort(asked)
			m.p.fail(m.lines[k], "%s: unknown key %q; known are %s", m.what, k, strings.Join(slices.Compact(asked), ", "))
		}
	}
}
