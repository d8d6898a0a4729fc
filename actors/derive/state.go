package derive

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
)

// ErrNoValue: nothing that the formula is computed of has a value.
var ErrNoValue = errors.New("no twin that it is computed of has a good value")

// Reading is what a twin says of a property.
type Reading struct {
	Value state.Value
	// Good readings count; others are known, and left out.
	Good bool
}

// State is a formula with what it is computed of. One goroutine at a time uses it. The cost of a change does not depend on how many twins
// there are; only after the least or the greatest value went, or much more than is left of the sum, are the others looked at.
type State struct {
	Formula *Formula
	sets    []*tally
	vars    map[string]any
}

// tally is one aggregate, kept up to date.
type tally struct {
	*Aggregate
	readings map[string]Reading // by the twins' ids; those that said nothing are in it without a value
	good     int                // readings that count
	numbers  int
	sum      float64
	peak     float64 // the greatest that was in the sum since it was made anew
	trues    int
	least    float64
	most     float64
	stale    bool // least and most have to be looked for
	changes  int  // since the sum was made anew
	first    []string
}

// Adding and subtracting loses digits. So a sum is made anew after resum changes, and where what is left of it is less than cancelled of
// what was in it.
const (
	resum     = 1024
	cancelled = 1e-3
)

// NewState makes the state of a formula before its sets are known.
func NewState(f *Formula) *State {
	s := &State{Formula: f, vars: map[string]any{}}
	for i := range f.Aggregates {
		s.sets = append(s.sets, &tally{Aggregate: &f.Aggregates[i], readings: map[string]Reading{}})
	}
	return s
}

// Become says which twins the i-th set has now. Those that are new get what read gives; it says false where a twin said nothing.
func (s *State) Become(i int, ids []string, read func(id, property string) (Reading, bool)) {
	t := s.sets[i]
	keep := make(map[string]bool, len(ids))
	for _, id := range ids {
		keep[id] = true
		if _, there := t.readings[id]; !there {
			t.readings[id] = Reading{}
			if t.Property == "" {
				continue
			}
			if r, ok := read(id, t.Property); ok {
				t.set(id, r)
			}
		}
	}
	for id := range t.readings {
		if !keep[id] {
			t.set(id, Reading{})
			delete(t.readings, id)
		}
	}
	t.first = nil
}

// Set takes what a twin says of a property. It says whether anything that is computed may change.
func (s *State) Set(id, property string, r Reading) (changed bool) {
	for _, t := range s.sets {
		if _, there := t.readings[id]; there && t.Property == property && t.set(id, r) {
			changed = true
		}
	}
	return changed
}

func (t *tally) set(id string, r Reading) bool {
	old := t.readings[id]
	if old == r || !old.Good && !r.Good {
		t.readings[id] = r
		return false
	}
	t.readings[id] = r
	if old.Good {
		t.count(old, -1)
	}
	if r.Good {
		t.count(r, 1)
	}
	t.changes++
	return true
}

// total is the sum of the numbers.
func (t *tally) total() float64 {
	if x := math.Abs(t.sum); t.changes >= resum || !(x >= cancelled*t.peak) || math.IsInf(x, 0) {
		t.changes, t.sum = 0, 0
		for _, r := range t.readings {
			if x, ok := number(r); ok {
				t.sum += x
			}
		}
		t.peak = math.Abs(t.sum)
	}
	return t.sum
}

// number is a reading that is one; true and false are not.
func number(r Reading) (float64, bool) {
	if !r.Good || r.Value.Kind() != state.Number {
		return 0, false
	}
	return r.Value.Sample()
}

// count takes a good reading in, or out.
func (t *tally) count(r Reading, by int) {
	t.good += by
	if r.Value == state.BoolValue(true) {
		t.trues += by
	}
	x, ok := number(r)
	if !ok {
		return
	}
	t.numbers += by
	t.sum += float64(by) * x
	t.peak = max(t.peak, math.Abs(x), math.Abs(t.sum))
	switch {
	case t.numbers == 0:
		t.sum, t.peak, t.stale = 0, 0, false
	case by < 0:
		t.stale = t.stale || x <= t.least || x >= t.most
	case t.numbers == 1:
		t.least, t.most, t.stale = x, x, false
	default:
		t.least, t.most = min(t.least, x), max(t.most, x)
	}
}

// look finds the least and the greatest value.
func (t *tally) look() {
	first := true
	for _, r := range t.readings {
		if x, ok := number(r); ok {
			if first {
				t.least, t.most, first = x, x, false
			}
			t.least, t.most = min(t.least, x), max(t.most, x)
		}
	}
	t.stale = false
}

// value is the aggregate's; false: there is none.
func (t *tally) value() (any, bool) {
	if t.stale && (t.Function == "min" || t.Function == "max") {
		t.look()
	}
	switch t.Function {
	case "sum":
		return t.total(), true
	case "count":
		if t.Property == "" {
			return float64(len(t.readings)), true
		}
		return float64(t.good), true
	case "any":
		return t.trues > 0, true
	case "all":
		return t.trues == t.good, t.good > 0
	case "first":
		return t.one()
	}
	if t.numbers == 0 {
		return nil, false
	}
	switch t.Function {
	case "min":
		return t.least, true
	case "max":
		return t.most, true
	}
	return t.total() / float64(t.numbers), true
}

// one is the good value of the twin whose id comes first.
func (t *tally) one() (any, bool) {
	if t.first == nil {
		t.first = slices.Sorted(maps.Keys(t.readings))
	}
	for _, id := range t.first {
		if r := t.readings[id]; r.Good {
			return r.Value, true
		}
	}
	return nil, false
}

// Eval computes the formula. ErrNoValue and expr.ErrMissing: nothing can be said now; other errors are the formula's own.
func (s *State) Eval(in *expr.Input) (state.Value, error) {
	for i, t := range s.sets {
		v, ok := t.value()
		if !ok {
			return state.Value{}, ErrNoValue
		}
		s.vars[slot(i)] = v
	}
	before := in.Vars
	in.Vars = s.vars
	defer func() { in.Vars = before }()
	return s.Formula.Eval(in)
}

// Vars computes the values of aggregates from scratch, by the words that stand for them; one that has no value is not among them. members gives the
// twins of a set, read what one says of a property: false where it said nothing.
func Vars(all []Aggregate, members func(*Set) ([]string, error), read func(id, property string) (Reading, bool)) (map[string]any, error) {
	vars := make(map[string]any, len(all))
	s := NewState(&Formula{Aggregates: all})
	for i := range all {
		ids, err := members(&all[i].Set)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", &all[i], err)
		}
		s.Become(i, ids, read)
		if v, ok := s.sets[i].value(); ok {
			vars[slot(i)] = v
		}
	}
	return vars, nil
}

// Word is the one that stands for the i-th aggregate of a text.
func Word(i int) string { return slot(i) }

// Sources counts the twins, and those of them that have no good value. A twin in two sets counts twice.
func (s *State) Sources() (all, without int) {
	for _, t := range s.sets {
		all += len(t.readings)
		if t.Property != "" {
			without += len(t.readings) - t.good
		}
	}
	return all, without
}
