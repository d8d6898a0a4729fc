package actors

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A property that is computed is a function of what others say now. A life of the twin reads that from the store, asks the others to tell
// it again, and from then on hears each change from the twin that it is of. So nothing of it is kept besides its value, and a life
// that ends anyhow loses nothing.

const (
	// deriveSpacing is the least time between two computations of a twin, in milliseconds: what changes meanwhile is computed together.
	deriveSpacing = 100
	// deriveAsks is how many twins are asked at a time, deriveAgain when those that did not answer are asked again, in milliseconds.
	deriveAsks  = 64
	deriveAgain = 1000
	askTimeout  = 10 * time.Second
)

// deriving is what a twin computes.
type deriving struct {
	of   *derived
	list []*computed
	// dirty: something may be another value; at is when it was computed last, by nowMS.
	dirty bool
	at    int64
	// asks are the twins that have yet to be asked, asking those that are, againAt when those that failed are asked once more.
	asks, failed []string
	asking       map[string]bool
	againAt      int64
}

// computed is one property.
type computed struct {
	*derivation
	state *derive.State // nil: it is not computed
	error string
	count uint64
	dirty bool
	// seen is the revision of the twin's state that it was computed with.
	seen uint64
}

// standing says whether it reads what is no property of the twin, and changes with its state: what was asked for, and how the twin does.
func (c *computed) standing() bool {
	u := c.formula.Uses()
	return u.Field("desired") || u.Field("status") || u.Field("fault")
}

type (
	// rederive: what the twin computes, or of whom, is another one. What is gone it computed, and does not any more.
	rederive struct{ gone []string }
	// asked: a twin has told its values again, or cannot.
	asked struct {
		of  *derived
		id  string
		err error
	}
)

func (m *rederive) run(t *twin) {
	if t.mode != modeLive {
		return
	}
	t.rederive()
	for _, property := range m.gone {
		if t.deriving.find(property) == nil {
			t.spoil(property, drivers.QualityStale) // nobody says it any more
		}
	}
}

// rederive takes over what the twin computes. What it has heard it keeps.
func (t *twin) rederive() {
	of := t.e.derivations.of(t.en.id)
	if of == nil {
		t.deriving = nil
		return
	}
	old := t.deriving
	if old != nil && old.of == of {
		return
	}
	d := &deriving{of: of, dirty: true, asking: map[string]bool{}}
	if old != nil {
		d.at = old.at
		d.asks = slices.Concat(slices.Sorted(maps.Keys(old.asking)), old.asks, old.failed) // they have yet to tell
	}
	known := map[string]bool{}
	for _, id := range d.asks {
		known[id] = true
	}
	records := map[string]*state.Record{}
	for _, x := range of.list {
		c := &computed{derivation: x, dirty: true, error: x.err}
		d.list = append(d.list, c)
		was := old.find(x.property)
		if was != nil {
			c.count = was.count
		}
		if x.err != "" {
			t.spoil(x.property, drivers.QualityBad)
			continue
		}
		c.state = derive.NewState(x.formula)
		if was != nil && was.state != nil && was.formula == x.formula {
			c.state = was.state // with all that was heard
		}
		for i, set := range x.sets {
			c.state.Become(i, set, func(id, property string) (derive.Reading, bool) {
				if !known[id] {
					known[id] = true
					d.asks = append(d.asks, id)
				}
				return t.readingOf(records, id, property)
			})
		}
	}
	t.deriving = d
	t.askSources()
}

// find gives a property's computation, or nil.
func (d *deriving) find(property string) *computed {
	if d == nil {
		return nil
	}
	for _, c := range d.list {
		if c.property == property {
			return c
		}
	}
	return nil
}

// readingOf is what a twin said last, as far as it is committed here.
func (t *twin) readingOf(records map[string]*state.Record, id, property string) (derive.Reading, bool) {
	r, read := records[id]
	if !read {
		if rec, ok, err := t.e.store.Get(tableStates, id); err == nil && ok {
			if r, err = state.Decode(rec.Value); err != nil {
				r = nil
			}
		}
		records[id] = r
	}
	if r == nil {
		return derive.Reading{}, false
	}
	p := r.Property(state.Intern(property))
	if p == nil {
		return derive.Reading{}, false
	}
	good := p.Quality() == uint8(pb.Quality_QUALITY_GOOD) && state.Live(pb.Connection(r.Connection))
	return derive.Reading{Value: p.Value, Good: good}, true
}

// askSources has the twins tell their values again, some at a time.
func (t *twin) askSources() {
	d := t.deriving
	for len(d.asking) < deriveAsks && len(d.asks) > 0 {
		id := d.asks[0]
		d.asks = d.asks[1:]
		d.asking[id] = true
		env := &cluster.Envelope{ID: newCallID(), Target: cluster.Target{Kind: "twin", ID: id}, Deadline: time.Now().Add(askTimeout),
			Principal: principalOf(t.en.id), Message: &actorv1.Retell{Subscriber: t.en.id}}
		e, me, of := t.e, t.en.id, d.of
		e.cluster.Call(env, func(a cluster.Reply) { e.send(&shardTurn{id: me, turn: &asked{of, id, a.Err}}) })
	}
}

func (m *asked) run(t *twin) {
	d := t.deriving
	if d == nil || d.of != m.of || t.mode != modeLive {
		return
	}
	delete(d.asking, m.id)
	switch {
	case errors.Is(m.err, ErrNotFound): // what it said may still be in the store
		for _, x := range d.of.list {
			for i := range x.sets {
				t.sourceGone(m.id, x.formula.Aggregates[i].Property)
			}
		}
	case m.err != nil:
		if len(d.failed) == 0 {
			d.againAt = t.nowMS() + deriveAgain
		}
		d.failed = append(d.failed, m.id)
	}
	t.askSources()
}

// sourcesTold takes what twins say that this one computes properties of. It says whether the message was only of that.
func (t *twin) sourcesTold(m *actorv1.Notices) bool {
	only := true
	for _, n := range m.Notices {
		if n.System != derivedSystem {
			only = false
			continue
		}
		v, err := state.ParseValue([]byte(n.Value))
		if err != nil || t.deriving == nil {
			continue
		}
		for _, c := range t.deriving.list {
			if c.state != nil && c.state.Set(m.Twin, n.Property, derive.Reading{Value: v, Good: n.Quality == pb.Quality_QUALITY_GOOD}) {
				c.dirty, t.deriving.dirty = true, true
			}
		}
	}
	return only
}

// sourceGone: a twin that this one computes of was deleted.
func (t *twin) sourceGone(id, property string) {
	if t.deriving == nil || t.mode != modeLive {
		return
	}
	for _, c := range t.deriving.list {
		if c.state != nil && c.state.Set(id, property, derive.Reading{}) {
			c.dirty, t.deriving.dirty = true, true
		}
	}
}

// sourceAnew has a twin that was made anew under the id of a deleted one say again what it may have said before the deletion was heard of.
func (t *twin) sourceAnew(id string) {
	if t.deriving != nil && t.mode == modeLive && t.e.known(id) {
		t.deriving.asks = append(t.deriving.asks, id)
		t.askSources()
	}
}

// ownChanged: a property of the twin itself has another value.
func (t *twin) ownChanged(property string) {
	if t.deriving == nil {
		return
	}
	for _, c := range t.deriving.list {
		if c.state != nil && c.property != property && c.formula.Uses().Reads(property) {
			c.dirty, t.deriving.dirty = true, true
		}
	}
}

// derive computes what may have changed.
func (t *twin) derive(now int64) {
	d := t.deriving
	if d == nil {
		return
	}
	if len(d.failed) > 0 && d.againAt <= now {
		d.asks, d.failed = append(d.asks, d.failed...), nil
		t.askSources()
	}
	for _, c := range d.list {
		if c.state != nil && c.seen != t.st.Revision && c.standing() {
			c.dirty, d.dirty = true, true
		}
	}
	if !d.dirty || now < d.at+deriveSpacing && now >= d.at && d.at > 0 {
		return
	}
	d.dirty, d.at = false, now
	look := t.outlook()
	if look == nil {
		return
	}
	var changes []drivers.Change
	var values []state.Value
	for _, c := range d.list {
		if !c.dirty || c.state == nil {
			continue
		}
		c.dirty, c.seen = false, t.st.Revision
		c.count++
		t.e.stats.derived.Add(1)
		v, err := c.state.Eval(&look.in)
		c.error = ""
		switch {
		case errors.Is(err, derive.ErrNoValue), errors.Is(err, expr.ErrMissing), err == nil && v.Kind() == state.Null:
			if err != nil {
				c.error = err.Error()
			}
			t.spoil(c.property, drivers.QualityStale)
			continue
		case err != nil:
			c.error = err.Error()
			t.spoil(c.property, drivers.QualityBad)
			continue
		case v.Size() > maxValue:
			c.error = "its value is too large"
			t.spoil(c.property, drivers.QualityBad)
			continue
		}
		if p := t.st.Property(state.Intern(c.property)); p != nil && p.Value.Equal(v) && p.Quality() == uint8(drivers.QualityGood) {
			continue
		}
		changes, values = append(changes, drivers.Change{Property: c.property}), append(values, v)
	}
	t.report(changes, values, nil)
}

// spoil marks the value that a computed property has as no good one any more.
func (t *twin) spoil(property string, q drivers.Quality) {
	p := t.st.Property(state.Intern(property))
	if p == nil || p.Quality() == uint8(q) {
		return
	}
	t.report([]drivers.Change{{Property: property, Quality: q}}, []state.Value{p.Value}, nil)
}

// next is when the twin has to compute or to ask again; 0: never.
func (d *deriving) next(now int64) int64 {
	if d == nil {
		return 0
	}
	var at int64
	if d.dirty {
		at = max(d.at+deriveSpacing, now+1)
	}
	if len(d.failed) > 0 && (at == 0 || d.againAt < at) {
		at = max(d.againAt, now+1)
	}
	return at
}

// busy says whether something is under way that the twin has to be there for.
func (d *deriving) busy() bool {
	return d != nil && (d.dirty || len(d.asking) > 0 || len(d.failed) > 0)
}

// proto shows how the computations go.
func (d *deriving) proto() map[string]*pb.DerivedState {
	if d == nil {
		return nil
	}
	all := make(map[string]*pb.DerivedState, len(d.list))
	for _, c := range d.list {
		s := &pb.DerivedState{Error: c.error, Evaluations: c.count}
		if c.formula != nil {
			s.Expression = c.formula.String()
		}
		if c.state != nil {
			n, without := c.state.Sources()
			s.Sources, s.WithoutValue = uint32(n), uint32(without)
		}
		all[c.property] = s
	}
	return all
}
