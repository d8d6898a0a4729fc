package search

import (
	"cmp"
	"container/heap"
	"iter"
	"slices"
	"strings"
	"unicode"

	"github.com/polluxhq/pollux/actors/expr"
)

// Query is what is looked for. All conditions hold together.
type Query struct {
	// Text are words; the entry has all of them, or words that begin so. Empty: every entry.
	Text string
	// Kinds, none: all. What is shown as another kind is found by both.
	Kinds []string
	// Facets that the entry has: project, model, driver, zone (that one, or one in it), status, and label as key=value.
	Facets []Facet
	// Near, with Metres, and Within (two corners of a box, or more of a polygon) are places.
	Near   *expr.Point
	Metres float64
	Within []expr.Point
	// Where is a condition over twin and entry; nil: none.
	Where *expr.Expr
	// Projects says which may be seen; nil: all. Kinds of no project may be seen by everybody.
	Projects func(project string) bool
	// Offset and Limit say which part of the hits is wanted; Count says to count the facets of all.
	Offset, Limit int
	Count         bool
}

// Facet is a name and a value that entries have in common.
type Facet struct{ Name, Value string }

// Weights of how a word of the query is in an entry.
const (
	inRest      = 2
	wholeRest   = 3
	inName      = 6
	wholeName   = 8
	nearWord    = 1 // mistyped
	nearName    = 4
	isName      = 20 // the query is the entry's name
	beginsName  = 5
	otherKinds  = 1 // what there is little of comes before twins
	fuzzyFrom   = 4 // letters that a word has at least, to be taken for mistyped
	fuzzierFrom = 8 // letters from which two may be wrong
)

// found is a doc and its score.
type found struct {
	*doc
	score uint32
}

// before says whether a hit comes before another: a better score, else by id and kind.
func (a found) before(b found) bool {
	if a.score != b.score {
		return a.score > b.score
	}
	if c := cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.kind, b.kind)); c != 0 {
		return c < 0
	}
	return false
}

// match gives all docs that the index alone says match, without an order.
func (x *index) match(q *Query) []found {
	keep := x.filter(q)
	tokens := words(q.Text)
	x.mu.RLock()
	defer x.mu.RUnlock()
	var all []found
	if len(tokens) == 0 {
		all = make([]found, 0, len(x.byKey))
		for _, d := range x.docs {
			if d != nil && keep(d) {
				all = append(all, found{d, 0})
			}
		}
		return all
	}
	score, hits := x.score(tokens)
	all = make([]found, 0, hits)
	whole := strings.ToLower(strings.TrimSpace(q.Text))
	for n, s := range score {
		if s == 0 || x.docs[n] == nil || !keep(x.docs[n]) {
			continue
		}
		d := x.docs[n]
		points := uint32(s)
		if s >= nearName {
			points += d.bonus(whole)
		}
		all = append(all, found{d, points})
	}
	return all
}

// score adds up what each word says of each doc; 0: a word is missing. hits is how many have all.
func (x *index) score(tokens []string) (total []uint16, hits int) {
	total = make([]uint16, len(x.docs))
	best := make([]uint8, len(x.docs))
	for i, w := range tokens {
		if i > 0 {
			clear(best)
		}
		x.hits(w, best)
		for n, b := range best {
			switch {
			case b == 0:
				total[n] = 0
			case i == 0:
				total[n] = uint16(b)
			case total[n] > 0:
				total[n] += uint16(b)
			}
		}
	}
	for _, s := range total {
		if s > 0 {
			hits++
		}
	}
	return total, hits
}

// hits notes the best way in which each doc has a word.
func (x *index) hits(word string, best []uint8) {
	any := false
	x.terms.AscendGreaterOrEqual(&term{text: word}, func(t *term) bool {
		if !strings.HasPrefix(t.text, word) {
			return false
		}
		any = true
		name, rest := uint8(inName), uint8(inRest)
		if len(t.text) == len(word) {
			name, rest = wholeName, wholeRest
		}
		t.mark(best, name, rest)
		return true
	})
	if !any && len(word) >= fuzzyFrom {
		for _, t := range x.mistyped(word) {
			t.mark(best, nearName, nearWord)
		}
	}
}

func (t *term) mark(best []uint8, name, rest uint8) {
	for _, n := range t.names {
		best[n] = max(best[n], name)
	}
	for _, n := range t.rest {
		best[n] = max(best[n], rest)
	}
}

// mistyped gives the terms that are the fewest wrong letters away from a word: one, or two of a long word. Words of digits alone are
// not guessed: another number is another thing.
func (x *index) mistyped(word string) []*term {
	if strings.IndexFunc(word, unicode.IsLetter) < 0 {
		return nil
	}
	limit := 1
	if len(word) >= fuzzierFrom {
		limit = 2
	}
	var near []*term
	x.terms.Ascend(func(t *term) bool {
		if n := len(t.text); n < len(word)-limit || n > len(word)+limit || t.text[0] <= '9' {
			return true
		}
		switch d := expr.Edits(word, t.text, limit); {
		case d < limit:
			near, limit = append(near[:0], t), d
		case d == limit:
			near = append(near, t)
		}
		return true
	})
	return near
}

// bonus is for entries whose name is what was asked for.
func (d *doc) bonus(whole string) uint32 {
	var b uint32
	if d.as != KindTwin {
		b = otherKinds
	}
	for _, name := range [...]string{d.id[d.name:], d.title} {
		switch {
		case len(name) < len(whole) || !strings.EqualFold(name[:len(whole)], whole):
		case len(name) == len(whole):
			return b + isName
		default:
			b = max(b, beginsName)
		}
	}
	return b
}

// filter says which docs the query wants, by all that the index knows of them but words.
func (x *index) filter(q *Query) func(*doc) bool {
	var checks []func(*doc) bool
	if len(q.Kinds) > 0 {
		checks = append(checks, func(d *doc) bool { return slices.Contains(q.Kinds, d.as) || slices.Contains(q.Kinds, d.kind) })
	}
	for _, f := range q.Facets {
		value, ok := x.text.known(f.Value)
		if !ok {
			return func(*doc) bool { return false }
		}
		if f.Name == "zone" { // and those in it
			checks = append(checks, x.inZone(value))
			continue
		}
		checks = append(checks, facetCheck(f.Name, value))
	}
	if q.Projects != nil {
		seen := map[uint32]bool{0: true} // of no project
		checks = append(checks, func(d *doc) bool {
			yes, known := seen[d.project]
			if !known {
				yes = q.Projects(x.text.at(d.project))
				seen[d.project] = yes
			}
			return yes
		})
	}
	if q.Near != nil {
		checks = append(checks, func(d *doc) bool {
			p, ok := unpack(d.place.Load())
			return ok && expr.Distance(p, *q.Near) <= q.Metres
		})
	}
	if len(q.Within) > 0 {
		checks = append(checks, func(d *doc) bool {
			p, ok := unpack(d.place.Load())
			return ok && expr.Inside(p, q.Within)
		})
	}
	return func(d *doc) bool {
		for _, c := range checks {
			if !c(d) {
				return false
			}
		}
		return true
	}
}

// inZone says whether a doc is in a zone, or in one in it. It is called under the lock.
func (x *index) inZone(zone uint32) func(*doc) bool {
	in := map[uint32]bool{}
	return func(d *doc) bool {
		yes, known := in[d.zone]
		if !known {
			yes = slices.Contains(slices.Collect(x.around(d.zone)), zone)
			in[d.zone] = yes
		}
		return yes
	}
}

// around gives a zone and those that it is in, from its own to the outermost; under the lock.
func (x *index) around(zone uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for range maxDepth {
			if zone == 0 || !yield(zone) {
				return
			}
			d := x.byKey[keyOf(KindZone, x.text.at(zone))]
			if d == nil {
				return
			}
			zone = d.zone
		}
	}
}

// FacetNames are the names of facets, in the order in which they are shown.
var FacetNames = []string{"kind", "project", "model", "driver", "zone", "status", "label"}

// of gives a doc's value of a facet that it has one of.
func (d *doc) facet(name string) uint32 {
	switch name {
	case "kind":
		return d.sort
	case "project":
		return d.project
	case "model":
		return d.model
	case "driver":
		return d.driver
	case "zone":
		return d.zone
	case "status":
		return d.status.Load()
	}
	return 0
}

func facetCheck(name string, value uint32) func(*doc) bool {
	if name == "label" {
		return func(d *doc) bool { return slices.Contains(d.labels, value) }
	}
	return func(d *doc) bool { return d.facet(name) == value }
}

// worst is a heap of the best hits, the worst of them on top.
type worst []found

func (w worst) Len() int           { return len(w) }
func (w worst) Less(i, j int) bool { return w[j].before(w[i]) }
func (w worst) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *worst) Push(a any)        { *w = append(*w, a.(found)) }
func (w *worst) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}

// best gives the n best hits in their order.
func best(all []found, n int) []found {
	if n >= len(all) {
		top := slices.Clone(all)
		slices.SortFunc(top, order)
		return top
	}
	top := make(worst, 0, n+1)
	for _, f := range all {
		if len(top) == n && n > 0 && !f.before(top[0]) {
			continue
		}
		heap.Push(&top, f)
		if len(top) > n {
			heap.Pop(&top)
		}
	}
	slices.SortFunc(top, order)
	return top
}

func order(a, b found) int {
	if a.before(b) {
		return -1
	}
	if b.before(a) {
		return 1
	}
	return 0
}

// Count is how many hits have a value of a facet; those of a zone count for the zones around it, too.
type Count struct {
	Value string
	Hits  int
}

// maxDepth ends a walk up from zone to zone: the records allow no deeper tree, but the index may be in the middle of a change.
const maxDepth = 32

// maxValues of a facet are given.
const maxValues = 20

// facets counts the hits' facets.
func (x *index) facets(all []found) map[string][]Count {
	n := x.text.size()
	counts := make([][]int32, len(FacetNames)) // by facet and interned value
	for i := range counts {
		counts[i] = make([]int32, n)
	}
	bump := func(facet int, value uint32) {
		if int(value) < n { // one that came this moment is counted the next time
			counts[facet][value]++
		}
	}
	for _, f := range all {
		bump(0, f.sort)
		bump(1, f.project)
		bump(2, f.model)
		bump(3, f.driver)
		bump(4, f.zone)
		bump(5, f.status.Load())
		for _, l := range f.labels {
			bump(6, l)
		}
	}
	counts[4] = x.rollUp(counts[4])
	out := map[string][]Count{}
	for i, name := range FacetNames {
		named := map[string]int{}
		for id, c := range counts[i] {
			if c > 0 && id > 0 {
				named[x.text.at(uint32(id))] = int(c)
			}
		}
		if len(named) > 0 {
			out[name] = top(named)
		}
	}
	return out
}

// rollUp counts what is in a zone for those around it, too.
func (x *index) rollUp(counts []int32) []int32 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make([]int32, len(counts))
	for zone, n := range counts {
		if n == 0 {
			continue
		}
		for around := range x.around(uint32(zone)) {
			if int(around) < len(all) {
				all[around] += n
			}
		}
	}
	return all
}

func top(counts map[string]int) []Count {
	all := make([]Count, 0, len(counts))
	for v, n := range counts {
		all = append(all, Count{v, n})
	}
	slices.SortFunc(all, func(a, b Count) int { return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(a.Value, b.Value)) })
	return all[:min(len(all), maxValues)]
}
