package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// Selector says on which members an actor may live. It is a list of conditions, all of which must hold:
//
//	site=berlin            the site is berlin
//	zone!=a                the availability zone is another than a, or none
//	rack in (r1,r2)        the label rack is one of these
//	rack notin (r1,r2)     the label rack is none of these, or there is none
//	gpu                    there is a label gpu
//	!gpu                   there is none
//
// `site` and `zone` are the member's own fields; every other name is one of its labels. The zero Selector has no
// conditions: every member satisfies it.
type Selector struct{ all []condition }

// condition is one part of a selector: the value of key is (not) among values, or, where values is empty, key has (not) a
// value.
type condition struct {
	key    string
	not    bool
	values []string // sorted
}

// Names of a member's own fields in selectors.
const (
	selectSite = "site"
	selectZone = "zone"
)

const (
	maxSelector     = 256 // bytes
	maxSelectorName = 63
)

// ParseSelector reads a selector. Errors say which part is wrong.
func ParseSelector(text string) (Selector, error) {
	var s Selector
	if len(text) > maxSelector {
		return s, fmt.Errorf("selector has %d bytes, %d are allowed", len(text), maxSelector)
	}
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	parts, err := splitSelector(text)
	if err != nil {
		return s, err
	}
	for _, part := range parts {
		c, err := parseCondition(part)
		if err != nil {
			return Selector{}, err
		}
		s.all = append(s.all, c)
	}
	slices.SortFunc(s.all, func(a, b condition) int { return strings.Compare(a.String(), b.String()) })
	s.all = slices.CompactFunc(s.all, func(a, b condition) bool { return a.String() == b.String() })
	return s, nil
}

// splitSelector cuts at the commas outside of parentheses.
func splitSelector(text string) (parts []string, err error) {
	from, inside := 0, false
	for i, r := range text {
		switch {
		case r == '(' && inside, r == ')' && !inside:
			return nil, fmt.Errorf("selector %q: a parenthesis at %d has no partner", text, i+1)
		case r == '(', r == ')':
			inside = !inside
		case r == ',' && !inside:
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	if inside {
		return nil, fmt.Errorf("selector %q: a parenthesis is not closed", text)
	}
	return append(parts, text[from:]), nil
}

func parseCondition(part string) (c condition, err error) {
	text := strings.TrimSpace(part)
	var list string
	switch {
	case text == "":
		return c, fmt.Errorf("selector: a condition is empty: want such as site=berlin")
	case strings.HasSuffix(text, ")"):
		head, values, _ := strings.Cut(strings.TrimSuffix(text, ")"), "(")
		words := strings.Fields(head)
		if len(words) != 2 || words[1] != "in" && words[1] != "notin" {
			return c, fmt.Errorf("selector: %q: want NAME in (A,B) or NAME notin (A,B)", text)
		}
		c.key, c.not, list = words[0], words[1] == "notin", values
	case strings.Contains(text, "!="):
		c.key, list, _ = strings.Cut(text, "!=")
		c.not = true
	case strings.Contains(text, "="):
		c.key, list, _ = strings.Cut(text, "=")
		list = strings.TrimPrefix(list, "=")
	default:
		c.key, c.not = strings.CutPrefix(text, "!")
		c.key = strings.TrimSpace(c.key)
		return c, checkSelectorName(text, "name", c.key)
	}
	c.key = strings.TrimSpace(c.key)
	if err := checkSelectorName(text, "name", c.key); err != nil {
		return c, err
	}
	for value := range strings.SplitSeq(list, ",") {
		value = strings.TrimSpace(value)
		if err := checkSelectorName(text, "value", value); err != nil {
			return c, err
		}
		c.values = append(c.values, value)
	}
	slices.Sort(c.values)
	c.values = slices.Compact(c.values)
	return c, nil
}

// checkSelectorName allows what names and values of labels may have.
func checkSelectorName(part, what, s string) error {
	ok := s != "" && len(s) <= maxSelectorName
	for _, r := range s {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/", r))
	}
	if !ok {
		return fmt.Errorf("selector: %q: %s %q: want letters, digits, '.', '_', '-', '/', at most %d", part, what, s, maxSelectorName)
	}
	return nil
}

func (c condition) String() string {
	list := strings.Join(c.values, ",")
	switch {
	case len(c.values) == 0 && c.not:
		return "!" + c.key
	case len(c.values) == 0:
		return c.key
	case len(c.values) == 1 && c.not:
		return c.key + "!=" + list
	case len(c.values) == 1:
		return c.key + "=" + list
	case c.not:
		return c.key + " notin (" + list + ")"
	default:
		return c.key + " in (" + list + ")"
	}
}

// String gives the selector in its one form: conditions and values sorted, no spaces that are not needed. Selectors
// that read the same are the same.
func (s Selector) String() string {
	parts := make([]string, len(s.all))
	for i, c := range s.all {
		parts[i] = c.String()
	}
	return strings.Join(parts, ",")
}

// Matches tells whether a member satisfies the selector.
func (s Selector) Matches(m *Member) bool {
	for _, c := range s.all {
		if !c.holds(m) {
			return false
		}
	}
	return true
}

func (c condition) holds(m *Member) bool {
	var value string
	var there bool
	switch c.key {
	case selectSite:
		value, there = m.Site, m.Site != ""
	case selectZone:
		value, there = m.AvailabilityZone, m.AvailabilityZone != ""
	default:
		value, there = m.Labels[c.key]
	}
	if len(c.values) > 0 {
		there = there && slices.Contains(c.values, value)
	}
	return there != c.not
}
